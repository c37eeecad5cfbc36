"""Providers' routes: concurrent requests share a call, and each gets its own answer."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from gateway.app import build_app
from gateway.rate_limits import RateLimits
from gateway.webhooks import called_url, template_of
from posthouse.v1 import message_service_pb2 as pb
from services.kit.errors import (
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PosthouseError,
)
from services.kit.status import to_item_error
from tests.unit.gateway.conftest import MAX_WEBHOOK, Gateway
from tests.unit.gateway.fakes import Fakes, ingested

PATH = "/api/v1/webhooks/simulator"
REFUSALS: dict[bytes, PosthouseError] = {
    b"forged": ForbiddenError("wrong signature", reason="WEBHOOK_FORGED"),
    b"unknown": NotFoundError("no such provider", reason="PROVIDER_NOT_FOUND"),
    b"busy": OverloadedError("too much waits", retry_after=3),
}


async def _answer(request: pb.IngestWebhooksRequest) -> pb.IngestWebhooksResponse:
    """Refuse what its body names, and give all others their body back."""
    return pb.IngestWebhooksResponse(
        results=[
            pb.WebhookResult(error=to_item_error(REFUSALS[each.body]))
            if each.body in REFUSALS
            else pb.WebhookResult(response=pb.IngestWebhookResponse(http_status=200, body=each.body))
            for each in request.requests
        ]
    )


async def test_concurrent_requests_share_a_call_and_nothing_else(gateway: Gateway) -> None:
    gateway.fakes.answers["IngestWebhooks"] = _answer
    bodies = [b"one", b"forged", b"two", b"unknown", b"busy", b"three"]
    answers = await asyncio.gather(*(gateway.client.post(PATH, content=body) for body in bodies))
    assert [answer.status_code for answer in answers] == [200, 403, 200, 404, 429, 200]
    assert [answer.content for answer in answers if answer.status_code == 200] == [b"one", b"two", b"three"]
    assert answers[1].json()["reason"] == "WEBHOOK_FORGED"
    assert answers[4].headers["retry-after"] == "3"
    (seen,) = gateway.fakes.seen
    assert [each.body for each in seen.request.requests] == bodies


async def test_requests_of_different_addresses_and_credentials_share_a_call(gateway: Gateway) -> None:
    gateway.fakes.answers["IngestWebhooks"] = ingested(http_status=200)
    app = build_app(replace(gateway.wiring, rate_limits=RateLimits(gateway_token="a-token-of-the-gateway")))

    async def post(address: str) -> int:
        transport = httpx2.ASGITransport(app, client=(address, 1))
        async with httpx2.AsyncClient(transport=transport, base_url="http://posthouse.test") as client:
            answer = await client.post(PATH, content=b"{}", headers={"authorization": f"Basic {address}"})
            return answer.status_code

    assert await asyncio.gather(post("203.0.113.1"), post("203.0.113.2")) == [200, 200]
    (seen,) = gateway.fakes.seen
    assert [each.remote_address for each in seen.request.requests] == ["203.0.113.1", "203.0.113.2"]
    assert seen.metadata["x-posthouse-gateway"] == "a-token-of-the-gateway"
    assert not {"authorization", "x-posthouse-address"} & seen.metadata.keys()


async def test_a_large_body_travels_alone(gateway: Gateway) -> None:
    gateway.fakes.answers["IngestWebhooks"] = ingested(http_status=200)
    gateway.fakes.answers["IngestWebhook"] = pb.IngestWebhookResponse(http_status=200)
    large = b"x" * (1024 * 1024 + 1)
    answers = await asyncio.gather(*(gateway.client.post(PATH, content=body) for body in (b"a", large, b"b")))
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert gateway.fakes.only("IngestWebhook").request.body == large
    assert [each.body for each in gateway.fakes.only("IngestWebhooks").request.requests] == [b"a", b"b"]


class Slow:
    """A body of which the rest does not come until it is let go."""

    def __init__(self, begins: bytes) -> None:
        self.begun, self.rest = asyncio.Event(), asyncio.Event()
        self._begins = begins

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._begins
        self.begun.set()
        await self.rest.wait()
        yield b"x"


async def test_who_sends_slowly_does_not_hold_up_other_large_bodies(gateway: Gateway) -> None:
    gateway.fakes.answers["IngestWebhook"] = pb.IngestWebhookResponse(http_status=200)
    slow = [Slow(b"x") for _ in range(10)]
    posts = [asyncio.create_task(gateway.client.post(PATH, content=each)) for each in slow]
    await asyncio.gather(*(each.begun.wait() for each in slow))
    async with asyncio.timeout(60):
        answer = await gateway.client.post(PATH, content=b"x" * (1024 * 1024 + 1))
    assert answer.status_code == 200
    for each in slow:
        each.rest.set()
    assert {answer.status_code for answer in await asyncio.gather(*posts)} == {200}


async def test_large_bodies_are_bounded_together(gateway: Gateway) -> None:
    gateway.fakes.answers["IngestWebhook"] = pb.IngestWebhookResponse(http_status=200)
    slow = [Slow(b"x" * (MAX_WEBHOOK - 1)) for _ in range(8)]
    posts = [asyncio.create_task(gateway.client.post(PATH, content=each)) for each in slow]
    await asyncio.gather(*(each.begun.wait() for each in slow))
    large = b"x" * (1024 * 1024 + 1)
    answer = await gateway.client.post(PATH, content=large)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    for each in slow:
        each.rest.set()
    assert {answer.status_code for answer in await asyncio.gather(*posts)} == {200}
    assert (await gateway.client.post(PATH, content=large)).status_code == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_only_posts_are_taken(client: httpx2.AsyncClient, method: str) -> None:
    answer = await client.request(method, PATH)
    assert (answer.status_code, answer.json()["reason"]) == (405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    "path", ["/api/v1/webhooks/", "/api/v1/webhooks/a/b", "/webhook/x", "/webhook/twilio"]
)
async def test_what_is_no_route_is_not_found(client: httpx2.AsyncClient, path: str) -> None:
    answer = await client.post(path, content=b"{}")
    assert (answer.status_code, answer.json()["reason"]) == (404, "NOT_FOUND")
    assert template_of(path) == "unmatched"


async def test_metrics_name_the_route_and_not_the_provider(gateway: Gateway) -> None:
    gateway.fakes.answers["IngestWebhooks"] = ingested(http_status=200)

    def counted(route: str) -> float:
        labels: dict[str, Any] = {"route": route, "status": "200"}
        return REGISTRY.get_sample_value("api_request_duration_seconds_count", labels) or 0.0

    routes = ["/api/v1/webhooks/{provider}", "/webhook/twilio/sms"]
    before = [counted(route) for route in routes]
    await gateway.client.post("/api/v1/webhooks/anything", content=b"{}")
    await gateway.client.post("/webhook/twilio/sms", content=b"{}")
    assert [counted(route) for route in routes] == [count + 1 for count in before]


@given(st.binary(max_size=40), st.binary(max_size=40), st.lists(st.tuples(st.just(b"host"), st.binary())))
def test_no_url_is_unexpected(path: bytes, query: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    scope = {
        "scheme": "http",
        "path": path.decode(errors="replace"),
        "raw_path": path,
        "query_string": query,
        "headers": headers,
        "server": ("127.0.0.1", 8000),
    }
    assert template_of(scope["path"])
    try:
        url = called_url(scope)
    except InvalidRequestError:
        return
    # As a text of protobuf's, which must be UTF-8.
    assert url.encode()
    # Its path begins where the request's does, whatever the host says.
    _, _, rest = url.partition("://")
    tail = (path or scope["path"].encode()) + (b"?" + query if query else b"")
    assert rest.removesuffix(tail.decode("latin-1")).isascii()
    assert not {"/", "?", "#", "@"} & set(rest.removesuffix(tail.decode("latin-1")))


@pytest.mark.parametrize("path", ["/webhook/twilio/sms", "/api/v1/webhooks/sendgrid"])
@pytest.mark.parametrize(
    "host",
    [
        b"posthouse.test/webhook/twilio/status",
        b"posthouse.test?",
        b"posthouse.test#",
        b"someone@posthouse.test",
        b"posthouse.test\\",
        b"posthouse test",
        b"posthouse.test:port",
        b"h\xe9",
    ],
)
async def test_a_host_that_is_none_is_refused(gateway: Gateway, path: str, host: bytes) -> None:
    answer = await gateway.client.post(path, content=b"{}", headers=[(b"host", host)])
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "Host")
    answer = await gateway.client.post(path, content=b"{}", headers=[(b"host", b"a"), (b"host", b"b")])
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "Host")
    assert gateway.fakes.seen == []


@pytest.mark.parametrize("host", [b"posthouse.test", b"127.0.0.1:8000", b"[::1]:8000", b"h%C3%A9_1"])
async def test_a_host_is_part_of_the_url(gateway: Gateway, host: bytes) -> None:
    gateway.fakes.answers["IngestWebhooks"] = ingested(http_status=200)
    answer = await gateway.client.post("/webhook/twilio/sms?a=1", content=b"{}", headers=[(b"host", host)])
    assert answer.status_code == 200
    (request,) = gateway.fakes.only("IngestWebhooks").request.requests
    assert request.url == f"http://{host.decode()}/webhook/twilio/sms?a=1"


@pytest.mark.parametrize(
    ("path", "provider"),
    [
        ("/api/v1/webhooks/simulator", "simulator"),
        ("/webhook/twilio/sms", "twilio"),
        ("/webhook/twilio/status", "twilio"),
    ],
)
async def test_webhooks_pass_as_they_came(gateway: Gateway, path: str, provider: str) -> None:
    gateway.fakes.answers["IngestWebhooks"] = ingested(
        http_status=200, content_type="text/xml", body=b"<Response/>"
    )
    body = b"From=%2B15559876543&Body=h\xe9"
    response = await gateway.client.post(
        f"{path}?a=%20b&c", content=body, headers={"X-Twilio-Signature": "sig", "content-type": "text/plain"}
    )
    assert (response.status_code, response.headers["content-type"]) == (200, "text/xml")
    assert response.content == b"<Response/>"
    (request,) = gateway.fakes.only("IngestWebhooks").request.requests
    assert (request.provider, request.method, request.body) == (provider, "POST", body)
    assert request.url == f"http://posthouse.test{path}?a=%20b&c"
    assert request.remote_address == "203.0.113.9"
    assert pb.Header(name="x-twilio-signature", value="sig") in request.headers


async def test_a_webhook_may_be_larger_than_other_bodies(gateway: Gateway) -> None:
    gateway.fakes.answers["IngestWebhook"] = pb.IngestWebhookResponse(http_status=200)
    body = b"x" * (MAX_WEBHOOK - 1)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1 << 20):
            yield body[start : start + (1 << 20)]

    for content in (body, pieces()):
        response = await gateway.client.post("/api/v1/webhooks/sendgrid", content=content)
        assert response.status_code == 200
    assert [call.request.body == body for call in gateway.fakes.seen] == [True, True]
    response = await gateway.client.post("/webhook/twilio/sms", content=b"x" * (MAX_WEBHOOK + 1))
    assert (response.status_code, response.json()["reason"]) == (413, "TOO_LARGE")


async def test_forged_webhook(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    refused = to_item_error(ForbiddenError("wrong signature", reason="WEBHOOK_FORGED"))
    fakes.answers["IngestWebhooks"] = pb.IngestWebhooksResponse(results=[pb.WebhookResult(error=refused)])
    response = await client.post("/api/v1/webhooks/simulator", content=b"{}")
    assert (response.status_code, response.json()["reason"]) == (403, "WEBHOOK_FORGED")


async def test_webhook_answer_without_status_or_type(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["IngestWebhooks"] = ingested()
    response = await client.post("/api/v1/webhooks/simulator", content=b"{}")
    assert (response.status_code, response.content) == (200, b"")


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (("10.0.0.1", 8000), "http://10.0.0.1:8000/a"),
        (("/run/x", None), "http://localhost/a"),
        (None, "http://localhost/a"),
    ],
)
def test_url_without_host_header(server: tuple[str, int] | None, expected: str) -> None:
    scope: dict[str, Any] = {
        "type": "http",
        "scheme": "http",
        "path": "/a",
        "query_string": b"",
        "headers": [],
        "server": server,
    }
    assert called_url(scope) == expected
