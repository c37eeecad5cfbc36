"""Webhooks that come together: through the batch call, and over HTTP through the gateway."""

import asyncio
import contextlib
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

import gateway.__main__
from posthouse.v1 import message_service_pb2 as pb
from services.kit.config import Settings
from services.kit.status import from_item_error
from services.providers.base import WebhookRequest
from services.providers.twilio import TwilioProvider
from tests.integration.ledger.rows import CONTACT, OURS, Book, make_draft
from tests.servers import free_ports
from tests.unit.providers.twilio_carrier import TOKEN, form_request

from .conftest import StartProcess
from .test_inbound import Refused
from .webhook_requests import passed_on

pytestmark = pytest.mark.integration

BASE = "http://127.0.0.1:8000"
STATUS = f"{BASE}/webhook/twilio/status"


def sms(sid: str, *, body: str = "hi") -> WebhookRequest:
    fields = {"MessageSid": sid, "From": CONTACT, "To": OURS, "Body": body, "NumMedia": "0"}
    return form_request(fields, url=f"{BASE}/webhook/twilio/sms")


def forged(sid: str) -> WebhookRequest:
    request = sms(sid)
    return WebhookRequest(request.method, request.url, request.headers, request.body + b"&Extra=1")


@pytest.fixture
async def stub(start_process: StartProcess) -> Any:
    return await start_process(twilio_auth_token=SecretStr(TOKEN), webhook_base_url=BASE)


async def test_each_request_of_a_batch_stands_on_its_own(
    stub: Any, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    (message,) = await book.claimed(make_draft())
    reports = [
        form_request(
            {"MessageSid": "SM9", "MessageStatus": state}, url=f"{STATUS}?message_id={message.id}&attempt=1"
        )
        for state in ("delivered", "sent", "delivered")
    ]
    odd = form_request({"MessageSid": "SM1", "MessageStatus": "exploded"}, url=STATUS)
    parse = TwilioProvider.parse

    def fail_at_times(provider: TwilioProvider, request: WebhookRequest) -> Any:
        if b"Body=fault" in request.body:
            raise RuntimeError
        return parse(provider, request)

    monkeypatch.setattr(TwilioProvider, "parse", fail_at_times)
    requests = [
        passed_on("twilio", sms("SM1")),
        passed_on("twilio", forged("SM2")),
        passed_on("nobody", sms("SM3")),
        *(passed_on("twilio", report) for report in reports),
        passed_on("twilio", odd),
        passed_on("twilio", sms("SM4", body="fault")),
        passed_on("twilio", sms("SM1")),
    ]
    answer = await stub.IngestWebhooks(pb.IngestWebhooksRequest(requests=requests))
    said = [
        from_item_error(result.error).reason
        if result.HasField("error")
        else (result.response.applied_count, result.response.duplicate_count, result.response.refused_count)
        for result in answer.results
    ]
    assert said[1:3] == ["WEBHOOK_FORGED", "PROVIDER_NOT_FOUND"]
    assert sorted([said[0], said[8]]) == [(0, 1, 0), (1, 0, 0)]
    assert said[4] == (1, 0, 0)
    assert sorted([said[3], said[5]]) == [(0, 1, 0), (1, 0, 0)]
    assert said[6:8] == [(0, 0, 1), "INTERNAL"]
    assert await book.state(message.id) == "delivered"
    assert await book.rows("SELECT provider_message_id FROM messages WHERE direction = 'inbound'") == [
        ("SM1",)
    ]
    assert await book.rows("SELECT verdict, count(*) FROM webhook_logs GROUP BY 1 ORDER BY 1") == [
        ("accepted", 5),
        ("forged", 1),
        ("malformed", 1),
    ]
    # What one entry says is of its own request.
    assert await book.rows(
        "SELECT id::text, applied_count, repeated_count FROM webhook_logs"
        " WHERE url LIKE '%%status?%%' ORDER BY id"
    ) == sorted(
        (result.response.webhook_log_id, result.response.applied_count, result.response.duplicate_count)
        for result in answer.results[3:6]
    )


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_batch_is_bounded(stub: Any, refusal: Refused, count: int) -> None:
    requests = [pb.IngestWebhookRequest(provider="twilio")] * count
    error = await refusal(stub.IngestWebhooks(pb.IngestWebhooksRequest(requests=requests)))
    assert [violation.field for violation in error.violations] == ["requests"]


async def test_a_hundred_posts_of_one_sid_over_http_are_one_message(
    start_process: StartProcess, settings: Settings, book: Book
) -> None:
    ports = free_ports(3)
    own = {"grpc_port": ports, "twilio_auth_token": SecretStr(TOKEN), "webhook_base_url": BASE}
    await start_process(**own)
    stop = asyncio.Event()
    # Of the other services the gateway only sees that they are away.
    process = asyncio.create_task(gateway.__main__.main(settings.model_copy(update=own), stop))
    limits = httpx2.Limits(max_connections=100)
    url = f"http://127.0.0.1:{settings.http_port}"
    async with httpx2.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(httpx2.TransportError):
                    if (await client.get("/ready")).status_code == 200:
                        break
                await asyncio.sleep(0.05)

        async def post(request: WebhookRequest) -> httpx2.Response:
            return await client.post("/webhook/twilio/sms", content=request.body, headers=request.headers)

        answers = await asyncio.gather(*(post(sms("SM1")) for _ in range(100)), post(forged("SM2")))
    stop.set()
    await asyncio.wait_for(process, 60)
    assert {answer.status_code for answer in answers[:100]} == {200}
    assert {answer.content for answer in answers[:100]} == {
        b'<?xml version="1.0" encoding="UTF-8"?><Response/>'
    }
    assert answers[100].status_code == 403
    assert await book.rows("SELECT provider_message_id, state FROM messages") == [("SM1", "received")]
    assert await book.rows("SELECT message_count FROM conversations") == [(1,)]
    assert await book.rows("SELECT sum(applied_count), sum(repeated_count) FROM webhook_logs") == [(1, 99)]
