"""The gateway limits per client and endpoint, says so on every answer, and enqueues nothing beyond."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from gateway.app import build_app
from gateway.rate_limits import RateLimits
from posthouse.v1 import message_service_pb2 as pb
from services.kit.errors import RateLimitedError
from services.kit.rate_limit_clients import Clients
from services.kit.rate_limits import RateLimiter
from services.kit.sliding_window import MemoryWindows
from services.kit.status import to_item_error
from tests.unit.gateway.conftest import MAX_BODY, Gateway
from tests.unit.gateway.fakes import accept_all, ingested
from tests.unit.gateway.samples import SEND

URL = "/api/v1/messages/send"
LIMIT = 5
TOKEN = "token-of-the-gateway"
HEADERS = (
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "ratelimit-policy",
    "ratelimit",
)


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[httpx2.AsyncClient]:
    """A client at 10.0.0.1, which is a trusted proxy, of a gateway that limits."""
    gateway.fakes.answers["SendMessages"] = accept_all
    limits = RateLimits(
        RateLimiter(MemoryWindows(60), 60),
        Clients(bulk="bulk-*=50", trusted_proxies="10.0.0.0/8", gateway_token=TOKEN),
        requests=LIMIT,
        gateway_token=TOKEN,
    )
    app = build_app(replace(gateway.wiring, rate_limits=limits))
    transport = httpx2.ASGITransport(app, client=("10.0.0.1", 4711), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://posthouse.test") as client:
        yield client


async def statuses(client: httpx2.AsyncClient, times: int, **options: Any) -> list[int]:
    return [(await client.post(URL, json=SEND, **options)).status_code for _ in range(times)]


async def test_every_answer_says_where_the_limit_stands(client: httpx2.AsyncClient) -> None:
    before = time.time()
    response = await client.post(URL, json=SEND)
    after = time.time()
    assert response.status_code == 202
    assert response.headers["x-ratelimit-limit"] == "5"
    assert response.headers["x-ratelimit-remaining"] == "4"
    # A minute from when it was asked, to the second.
    assert before + 58 < int(response.headers["x-ratelimit-reset"]) < after + 62
    assert response.headers["ratelimit-policy"] == '"default";q=5;w=60'
    assert re.fullmatch(r'"default";r=4;t=(60|5\d)', response.headers["ratelimit"])


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", URL, b"{", 400),
        ("POST", URL, b"x" * (MAX_BODY + 1), 413),
        ("GET", URL, b"", 405),
        ("GET", "/api/v1/messages/m1", b"", 501),
        ("PUT", "/api/v1/messages", b"", 405),
        ("GET", "/nowhere", b"", 404),
        ("POST", "/api/v1/messages/batch", b"{}", 400),
    ],
)
async def test_refusals_of_any_kind_carry_it_too(
    client: httpx2.AsyncClient, method: str, path: str, content: bytes, status: int
) -> None:
    for remaining in (4, 3):
        response = await client.request(method, path, content=content)
        assert response.status_code == status
        assert response.headers["x-ratelimit-remaining"] == str(remaining)


async def test_over_the_limit_is_a_429_and_nothing_is_enqueued(
    client: httpx2.AsyncClient, gateway: Gateway
) -> None:
    assert await statuses(client, LIMIT) == [202] * LIMIT
    gateway.fakes.seen.clear()
    response = await client.post(URL, json=SEND)
    assert response.status_code == 429
    assert response.headers["content-type"] == "application/problem+json"
    assert 30 <= int(response.headers["retry-after"]) <= 61
    assert response.headers["x-ratelimit-remaining"] == "0"
    problem = response.json()
    assert (problem["status"], problem["reason"]) == (429, "RATE_LIMITED")
    assert "5 requests per 60 s" in problem["detail"]
    assert problem["request_id"] == response.headers["x-request-id"]
    assert gateway.fakes.seen == []


async def test_many_at_once_admit_exactly_the_limit(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    responses = await asyncio.gather(*(client.post(URL, json=SEND) for _ in range(100)))
    found = [response.status_code for response in responses]
    assert (found.count(202), found.count(429)) == (LIMIT, 100 - LIMIT)
    sent = [message for seen in gateway.fakes.seen for message in seen.request.requests]
    assert len(sent) == LIMIT


async def test_endpoints_are_counted_apart_and_by_their_template(client: httpx2.AsyncClient) -> None:
    assert await statuses(client, LIMIT + 1) == [202] * LIMIT + [429]
    found = [(await client.get(f"/api/v1/messages/m{number}")).status_code for number in range(LIMIT + 1)]
    assert found == [501] * LIMIT + [429]
    assert (await client.get("/api/v1/messages/m1/events")).status_code == 501
    assert (await client.get("/api/v1/messages")).status_code == 501


async def test_guessing_paths_is_one_endpoint(client: httpx2.AsyncClient) -> None:
    found = [(await client.request(f"X{n}", f"/guess/{n}")).status_code for n in range(LIMIT + 1)]
    assert found == [404] * LIMIT + [429]


async def test_a_key_is_a_client_and_so_is_an_address(client: httpx2.AsyncClient) -> None:
    assert await statuses(client, LIMIT + 1) == [202] * LIMIT + [429]
    key = {"x-api-key": "k1"}
    assert await statuses(client, LIMIT + 1, headers=key) == [202] * LIMIT + [429]
    # The same key in another header and from another address is the same client.
    again = {"authorization": "Bearer k1", "x-forwarded-for": "198.51.100.7"}
    assert await statuses(client, 1, headers=again) == [429]
    assert await statuses(client, 1, headers={"x-api-key": "k2"}) == [202]


async def test_behind_a_trusted_proxy_the_caller_is_who_it_says(client: httpx2.AsyncClient) -> None:
    def by(address: str) -> dict[str, str]:
        return {"x-forwarded-for": f"1.1.1.1, {address}"}

    assert await statuses(client, LIMIT + 1, headers=by("198.51.100.7")) == [202] * LIMIT + [429]
    assert await statuses(client, 1, headers=by("198.51.100.8")) == [202]
    # Turning the claim on the left changes nothing.
    turned = {"x-forwarded-for": "2.2.2.2, 198.51.100.7"}
    assert await statuses(client, 1, headers=turned) == [429]


async def test_from_anyone_else_the_header_is_worth_nothing(
    client: httpx2.AsyncClient, gateway: Gateway
) -> None:
    transport: Any = client._transport
    transport.client = ("203.0.113.9", 4711)
    found = []
    for number in range(LIMIT + 1):
        found += await statuses(client, 1, headers={"x-forwarded-for": f"198.51.100.{number}"})
    assert found == [202] * LIMIT + [429]
    assert gateway.fakes.seen[-1].metadata["x-posthouse-address"] == "203.0.113.9"


async def test_bulk_senders_have_their_own_limit(client: httpx2.AsyncClient) -> None:
    response = await client.post(URL, json=SEND, headers={"x-api-key": "bulk-1"})
    assert response.headers["x-ratelimit-limit"] == "50"
    assert response.headers["ratelimit-policy"] == '"bulk";q=50;w=60'
    assert await statuses(client, 50, headers={"x-api-key": "bulk-1"}) == [202] * 49 + [429]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/health"),
        ("GET", "/ready"),
        ("GET", "/metrics"),
        ("GET", "/api/v1/docs"),
        ("GET", "/api/v1/openapi.json"),
        ("POST", "/api/v1/webhooks/simulator"),
        ("POST", "/webhook/twilio/sms"),
        ("POST", "/webhook/twilio/status"),
    ],
)
async def test_probes_documentation_and_webhooks_are_exempt(
    client: httpx2.AsyncClient, gateway: Gateway, method: str, path: str
) -> None:
    gateway.fakes.answers["IngestWebhooks"] = ingested(http_status=200)
    for _ in range(LIMIT * 2):
        response = await client.request(method, path)
        assert response.status_code in (200, 503)
        assert not set(HEADERS) & set(response.headers)


async def test_what_only_begins_like_an_exempt_path_is_limited(client: httpx2.AsyncClient) -> None:
    paths = ["/healthy", "/metrics/x", "/readyness", "/api/v1/docsx", "/api/v1/openapi.json.bak", "/health/"]
    assert [(await client.get(path)).status_code for path in paths] == [404] * LIMIT + [429]


async def test_the_services_are_told_who_called(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    headers = {"x-api-key": "k1", "x-forwarded-for": "198.51.100.7", "x-posthouse-address": "6.6.6.6"}
    await client.post(URL, json=SEND, headers=headers)
    await client.get("/api/v1/messages/m1", headers=headers)
    for method in ("SendMessages", "GetMessage"):
        metadata = gateway.fakes.only(method).metadata
        assert metadata["x-posthouse-gateway"] == TOKEN
        assert metadata["x-posthouse-address"] == "198.51.100.7"
        assert metadata["x-api-key"] == "k1"


async def test_callers_of_different_addresses_do_not_share_a_call(
    client: httpx2.AsyncClient, gateway: Gateway
) -> None:
    await asyncio.gather(
        *(statuses(client, 1, headers={"x-forwarded-for": f"198.51.100.{n}"}) for n in range(3))
    )
    assert sorted(seen.metadata["x-posthouse-address"] for seen in gateway.fakes.seen) == [
        "198.51.100.0",
        "198.51.100.1",
        "198.51.100.2",
    ]


async def test_a_webhook_is_logged_with_the_address_behind_the_proxy(
    client: httpx2.AsyncClient, gateway: Gateway
) -> None:
    gateway.fakes.answers["IngestWebhooks"] = ingested(http_status=200)
    await client.post("/api/v1/webhooks/simulator", headers={"x-forwarded-for": "198.51.100.7"})
    (request,) = gateway.fakes.only("IngestWebhooks").request.requests
    assert request.remote_address == "198.51.100.7"


async def test_a_limit_of_the_service_is_a_429_with_its_time(
    client: httpx2.AsyncClient, gateway: Gateway
) -> None:
    error = to_item_error(RateLimitedError("the sender has sent enough", retry_after=7.2))

    async def refuse(request: pb.SendMessagesRequest) -> pb.SendMessagesResponse:
        return pb.SendMessagesResponse(results=[pb.SendResult(error=error) for _ in request.requests])

    gateway.fakes.answers["SendMessages"] = refuse
    response = await client.post(URL, json=SEND)
    assert (response.status_code, response.headers["retry-after"]) == (429, "8")
    batch = await client.post("/api/v1/messages/batch", json={"messages": [SEND]})
    assert batch.status_code == 207
    assert batch.json()["results"][0]["error"]["reason"] == "RATE_LIMITED"
    assert batch.json()["results"][0]["error"]["retry_after"] == 8


async def test_without_limits_there_are_no_headers(gateway: Gateway) -> None:
    gateway.fakes.answers["SendMessages"] = accept_all
    for _ in range(200):
        response = await gateway.client.post(URL, json=SEND)
        assert response.status_code == 202
    assert not set(HEADERS) & set(response.headers)
    assert "x-posthouse-address" not in gateway.fakes.seen[-1].metadata
