"""A person settles what nobody else can, and the history says who and why."""

from typing import Any

import grpc
import pytest

from posthouse.v1 import dispatch_service_pb2 as pb
from posthouse.v1 import message_pb2
from services.kit.ids import new_id
from services.kit.status import from_rpc_error
from services.providers.base import Accepted, Unknown

from .house import House, RunningDispatcher
from .scripted import ScriptedProvider
from .steering import steering

pytestmark = pytest.mark.integration

_SENT = message_pb2.MESSAGE_STATE_SENT
_PENDING = message_pb2.MESSAGE_STATE_PENDING
_FAILED = message_pb2.MESSAGE_STATE_FAILED


async def _lost(house: House, provider: ScriptedProvider) -> tuple[RunningDispatcher, str]:
    provider.inquiry_delay = 60.0
    provider.scripts = {"lost": [Unknown("timeout"), Accepted("P2")]}
    running = await house.dispatch()
    (lost,) = await house.send("lost")
    await house.until("unknown", lost)
    return running, lost


async def _resolve(running: RunningDispatcher, **fields: Any) -> message_pb2.Message:
    async with steering(running) as stub:
        return (await stub.ResolveMessage(pb.ResolveMessageRequest(**fields))).message


async def test_sent(house: House, provider: ScriptedProvider) -> None:
    running, lost = await _lost(house, provider)
    message = await _resolve(running, message_id=lost, state=_SENT, reason=" Ada saw it\0 at the carrier ")
    assert message.state == _SENT
    assert await house.book.story(lost) == ["accepted", "sending", "unknown", "sent"]
    detail = await house.book.value(
        "SELECT detail FROM message_events WHERE message_id = %s AND type = 'sent'", lost
    )
    assert detail == "resolved by hand: Ada saw it at the carrier"
    assert await house.book.rows("SELECT outcome FROM dispatch_attempts") == [("accepted",)]
    assert provider.attempts() == {"lost": 1}


async def test_pending_is_sent_again(house: House, provider: ScriptedProvider) -> None:
    running, lost = await _lost(house, provider)
    await _resolve(running, message_id=lost, state=_PENDING, reason="the carrier has lost it")
    await house.until("sent", lost)
    assert await house.book.story(lost) == [
        *["accepted", "sending", "unknown", "retrying", "sending", "sent"]
    ]
    assert await house.book.rows("SELECT outcome FROM dispatch_attempts ORDER BY number") == [
        ("unknown",),
        ("accepted",),
    ]
    assert provider.attempts() == {"lost": 2}


async def test_failed_is_a_dead_letter(house: House, provider: ScriptedProvider) -> None:
    running, lost = await _lost(house, provider)
    message = await _resolve(running, message_id=lost, state=_FAILED, reason="too late")
    assert (message.state, message.error_code) == (_FAILED, "resolved")
    assert await house.book.rows(
        "SELECT message_id::text, reason, error_message, attempt_count FROM dead_letters"
    ) == [(lost, "resolved", "resolved by hand: too late", 1)]
    async with steering(running) as stub:
        await stub.ReplayDeadLetters(pb.ReplayDeadLettersRequest(message_ids=[lost]))
    await house.until("sent", lost)


async def test_only_the_unknown_is_resolved(house: House, provider: ScriptedProvider) -> None:
    running, lost = await _lost(house, provider)
    await _resolve(running, message_id=lost, state=_SENT, reason="x" * 1000)
    for fields, code in (
        ({"message_id": lost, "state": _SENT, "reason": "seen"}, grpc.StatusCode.FAILED_PRECONDITION),
        ({"message_id": lost, "state": _PENDING, "reason": "no"}, grpc.StatusCode.FAILED_PRECONDITION),
        ({"message_id": new_id(), "state": _SENT, "reason": "seen"}, grpc.StatusCode.NOT_FOUND),
        ({"message_id": lost, "state": _SENT, "reason": " "}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"message_id": lost, "state": _SENT, "reason": "x" * 1001}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"message_id": lost, "state": 0, "reason": "seen"}, grpc.StatusCode.INVALID_ARGUMENT),
        (
            {"message_id": lost, "state": message_pb2.MESSAGE_STATE_READ, "reason": "seen"},
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        ({"message_id": "x", "state": _SENT, "reason": "seen"}, grpc.StatusCode.INVALID_ARGUMENT),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _resolve(running, **fields)
        error = from_rpc_error(caught.value)
        assert error.code == code
        if code is not grpc.StatusCode.NOT_FOUND:
            assert len(error.violations) == 1
    assert await house.book.story(lost) == ["accepted", "sending", "unknown", "sent"]
