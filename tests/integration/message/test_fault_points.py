"""A message process that is killed at any point of its path neither loses nor doubles a message."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import orjson
import pytest

from posthouse.v1 import message_service_pb2 as pb
from posthouse.v1 import message_service_pb2_grpc as pb_grpc
from services.kit.client import open_channel
from services.kit.config import Settings
from services.kit.fault_points import POINTS
from services.providers.simulator_webhook import sign
from tests.integration.ledger.rows import Book, eventually

from .mortal import BY_HAND, mortal_process

MESSAGE_POINTS = [point for point in POINTS if point.startswith("message.") and point not in BY_HAND]
SENDS = 5
# The same in every process and every turn: another time would be another payload.
TOMORROW = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)

_REPLY = {
    "event": "reply",
    "event_id": "event-of-the-reply",
    "provider_message_id": "SM-reply",
    "channel": "sms",
    "from": "+15559876540",
    "to": "+15551234567",
    "body": "thank you",
    "timestamp": "2026-01-01T00:00:00Z",
}

_STOP = {**_REPLY, "event_id": "event-of-the-stop", "provider_message_id": "SM-stop", "body": "STOP"}


@asynccontextmanager
async def _stub(settings: Settings) -> AsyncIterator[pb_grpc.MessageServiceStub]:
    async with open_channel(settings.message_target) as channel:
        await asyncio.wait_for(channel.channel_ready(), 60)
        yield pb_grpc.MessageServiceStub(channel)


def _sends() -> pb.SendMessagesRequest:
    return pb.SendMessagesRequest(
        requests=[
            pb.SendMessageRequest(
                sender="+15551234567",
                recipient=f"+1555987654{number}",
                body=f"number {number}",
                request_id=f"key-{number}",
            )
            for number in range(SENDS)
        ]
    )


async def _work(settings: Settings, message_ids: list[str]) -> list[str]:
    """Send what has keys and report the delivery of messages; return the ids of the answers."""
    async with _stub(settings) as stub:
        answer = await stub.SendMessages(_sends(), timeout=60)
        ids = [result.message.id for result in answer.results]
        assert all(ids), answer
        message_ids[:] = ids
        await stub.IngestWebhook(_webhook(settings, _receipts(ids)), timeout=60)
        await stub.IngestWebhook(_webhook(settings, [_REPLY]), timeout=60)
        await stub.IngestWebhook(_webhook(settings, [_STOP]), timeout=60)
        await _override_and_cancel(stub)
        return ids


async def _override_and_cancel(stub: pb_grpc.MessageServiceStub) -> None:
    """Write to who has opted out of e-mail, first at once and then tomorrow, and think better of that."""
    pair = {"sender": "desk@example.com", "recipient": "guest@example.org"}
    await stub.AddOptOut(pb.AddOptOutRequest(**pair), timeout=60)
    mail = pb.SendMessageRequest(
        **pair, subject="Your receipt", body="It is paid.", transactional=True, request_id="receipt"
    )
    await stub.SendMessage(mail, timeout=60)
    mail.request_id = "later"
    mail.send_time.FromDatetime(TOMORROW)
    later = await stub.SendMessage(mail, timeout=60)
    await stub.CancelMessage(pb.CancelMessageRequest(message_id=later.message.id), timeout=60)


def _receipts(ids: list[str]) -> list[dict[str, Any]]:
    return [
        {
            "event": "delivered",
            "event_id": f"event-{message_id}",
            "message_id": message_id,
            "attempt": 1,
            "provider_message_id": f"SM{message_id}",
            "timestamp": "2026-01-01T00:00:00Z",
        }
        for message_id in ids
    ]


def _webhook(settings: Settings, events: list[dict[str, Any]]) -> pb.IngestWebhookRequest:
    body = orjson.dumps(events)
    timestamp = str(int(datetime.now(UTC).timestamp()))
    assert settings.simulator_secret is not None
    signature = sign(settings.simulator_secret.get_secret_value(), timestamp, body)
    return pb.IngestWebhookRequest(
        provider="simulator",
        method="POST",
        url="http://localhost/api/v1/webhooks/simulator",
        headers=[
            pb.Header(name="X-Posthouse-Simulator-Timestamp", value=timestamp),
            pb.Header(name="X-Posthouse-Simulator-Signature", value=signature),
        ],
        body=body,
    )


@pytest.mark.parametrize("point", MESSAGE_POINTS)
async def test_killed_at_any_point_it_neither_loses_nor_doubles(
    settings: Settings, book: Book, point: str
) -> None:
    settings = settings.model_copy(update={"outbox_republish_after": 0.5})
    first: list[str] = []
    with mortal_process(settings, fault=point) as process:
        # Killed before the answer, or after it: the caller sees one or the other and cannot tell more.
        with suppress(grpc.aio.AioRpcError, TimeoutError):
            await _work(settings, first)
        await asyncio.to_thread(process.join, 60)
        assert process.exitcode == -signal.SIGKILL, "the fault point was never reached"

    with mortal_process(settings):
        again: list[str] = []
        ids = await _work(settings, again)
        assert not first or first == ids

        assert await book.value("SELECT count(*) FROM messages WHERE direction = 'inbound'") == 2
        sent = await book.rows(
            "SELECT id::text FROM messages WHERE direction = 'outbound' AND channel = 'sms' ORDER BY id"
        )
        assert [row[0] for row in sent] == sorted(ids)
        events = await book.rows(
            "SELECT message_id::text, sequence FROM message_events WHERE type <> 'received' AND message_id IN"
            " (SELECT id FROM messages WHERE channel = 'sms') ORDER BY message_id, sequence"
        )
        assert events == [(one, sequence) for one in sorted(ids) for sequence in (1, 2)]
        assert await book.value("SELECT count(*) FROM provider_events") == SENDS + 2
        # Each message is work for a dispatcher exactly once, and its events reach the broker.
        work = await book.rows(
            "SELECT unnest(message_ids)::text FROM outbox WHERE subject LIKE 'posthouse.dispatch.sms%%'"
        )
        assert sorted(row[0] for row in work) == sorted(ids)
        # What came of consent and of the cancellation is there once as well.
        consent = await book.rows(
            "SELECT change, source FROM consent_events WHERE effective ORDER BY change, source"
        )
        assert consent == [
            ("opted_out", "api"),
            ("opted_out", "contact"),
            ("overridden", "api"),
            ("overridden", "api"),
        ]
        mails = await book.rows(
            "SELECT state, (SELECT count(*) FROM message_events WHERE message_id = m.id) FROM messages m"
            " WHERE channel = 'email' ORDER BY state"
        )
        assert mails == [("cancelled", 2), ("pending", 1)]
        await eventually(lambda: _published(book))


async def _published(book: Book) -> bool:
    left: int = await book.value("SELECT count(*) FROM outbox WHERE subject LIKE 'posthouse.event.%%'")
    return left == 0
