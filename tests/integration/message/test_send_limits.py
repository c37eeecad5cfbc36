"""MessageService within its limits: item by item, nothing stored beyond them, repeats free of charge."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import psycopg
import pytest
from pydantic import SecretStr

from posthouse.v1 import message_service_pb2 as pb
from posthouse.v1 import message_service_pb2_grpc as pb_grpc
from services.kit.client import open_channel
from services.kit.config import Settings
from services.kit.status import from_rpc_error
from services.message.__main__ import main

pytestmark = pytest.mark.integration

LIMIT = 5
TOKEN = "token-of-the-gateway"


@pytest.fixture
async def stub(settings: Settings) -> AsyncIterator[Any]:
    limited = settings.model_copy(
        update={
            "rate_limit_enabled": True,
            "rate_limit_requests": LIMIT,
            "rate_limit_ip_requests": 1000,
            "gateway_token": SecretStr(TOKEN),
        }
    )
    stop = asyncio.Event()
    running = asyncio.create_task(main(limited, stop))
    channel = open_channel(f"127.0.0.1:{settings.grpc_port}")
    stub = pb_grpc.MessageServiceStub(channel)
    await channel.channel_ready()
    yield stub
    await channel.close(None)
    stop.set()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.wait_for(running, 60)


def request(number: int = 0, key: str = "", sender: str = "+15551234567") -> pb.SendMessageRequest:
    return pb.SendMessageRequest(
        sender=sender, recipient="+15559876543", body=f"message {number}", request_id=key
    )


async def send(stub: Any, *requests: pb.SendMessageRequest, client: str = "k1") -> list[str]:
    """Send a batch as the gateway would, and return a word per result."""
    response = await stub.SendMessages(
        pb.SendMessagesRequest(requests=requests),
        metadata=[("x-api-key", client), ("x-posthouse-gateway", TOKEN)],
    )
    return [
        result.error.reason
        if result.HasField("error")
        else "replayed"
        if result.message.replayed
        else "accepted"
        for result in response.results
    ]


def stored(settings: Settings) -> int:
    with psycopg.connect(settings.database_url) as connection:
        row = connection.execute("SELECT count(*) FROM messages").fetchone()
        return 0 if row is None else int(row[0])


async def test_items_over_the_limit_are_refused_and_their_neighbours_stored(
    stub: Any, settings: Settings
) -> None:
    batch = [request(number) for number in range(LIMIT + 3)]
    response = await stub.SendMessages(
        pb.SendMessagesRequest(requests=[pb.SendMessageRequest(sender="bad"), *batch])
    )
    results = response.results[1:]
    assert [result.HasField("message") for result in results] == [True] * LIMIT + [False] * 3
    error = results[-1].error
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], "RATE_LIMITED")
    assert 0 < error.retry_after_seconds <= 61
    assert response.results[0].error.reason == "INVALID_FIELD"
    assert stored(settings) == LIMIT


async def test_a_single_send_over_the_limit_has_the_rich_status(stub: Any, settings: Settings) -> None:
    assert await send(stub, *(request(n) for n in range(LIMIT))) == ["accepted"] * LIMIT
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.SendMessage(request(), metadata=[("x-api-key", "k1")])
    error = from_rpc_error(refused.value)
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert error.retry_after is not None
    assert len(error.quotas) == 1
    assert stored(settings) == LIMIT


async def test_repeats_cost_nothing_and_are_answered_beyond_the_limit(stub: Any, settings: Settings) -> None:
    first = request(1, key="first")
    assert await send(stub, first) == ["accepted"]
    for _ in range(LIMIT * 2):
        assert await send(stub, first) == ["replayed"]
    assert await send(stub, *(request(n) for n in range(LIMIT))) == ["accepted"] * (LIMIT - 1) + [
        "RATE_LIMITED"
    ]
    changed = request(2, key="first")
    fresh = request(3, key="fresh")
    assert await send(stub, first, changed, fresh) == ["replayed", "IDEMPOTENCY_KEY_REUSED", "RATE_LIMITED"]
    assert stored(settings) == LIMIT


async def test_a_key_that_was_refused_may_be_used_again(stub: Any) -> None:
    await send(stub, *(request(n) for n in range(LIMIT)))
    other = request(9, key="later", sender="+15551234568")
    assert await send(stub, other) == ["RATE_LIMITED"]
    # Its first try left nothing behind: another client is not told of a repeat.
    assert await send(stub, other, client="k2") == ["accepted"]


async def test_a_preview_shows_the_verdict_and_takes_nothing(stub: Any) -> None:
    metadata = [("x-api-key", "k1"), ("x-posthouse-gateway", TOKEN)]
    ask = pb.PreviewMessageRequest(message=request())
    for _ in range(LIMIT * 2):
        verdict = (await stub.PreviewMessage(ask, metadata=metadata)).rate_limit
        assert (verdict.allowed, verdict.limit, verdict.remaining) == (True, LIMIT, LIMIT)
    await send(stub, *(request(n) for n in range(LIMIT)))
    preview = await stub.PreviewMessage(ask, metadata=metadata)
    assert not preview.acceptable
    assert [refusal.reason for refusal in preview.refusals] == ["RATE_LIMITED"]
    assert not preview.rate_limit.allowed
    assert 0 < preview.rate_limit.reset_seconds <= 60
