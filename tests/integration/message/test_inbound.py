"""What comes in, from other systems and from providers: committed once before it is answered."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import grpc
import orjson
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from posthouse.v1 import message_service_pb2 as pb
from services.kit import metrics
from services.kit.ids import new_id
from services.kit.status import RemoteError
from services.ledger.database import Database
from services.providers.simulator_webhook import SIGNATURE_HEADER, TIMESTAMP_HEADER, sign
from tests.integration.ledger.rows import CONTACT, OURS, Book, eventually, make_draft, settlement_for

pytestmark = pytest.mark.integration

Refused = Callable[[Any], Awaitable[RemoteError]]

# Of the `settings` fixture.
_SECRET = "simulator-secret-of-the-tests"


def _webhook(events: Any, *, secret: str = _SECRET, **headers: str) -> pb.IngestWebhookRequest:
    body = events if isinstance(events, bytes) else orjson.dumps(events)
    now = str(int(time.time()))
    signed = {TIMESTAMP_HEADER: now, SIGNATURE_HEADER: sign(secret, now, body), **headers}
    return pb.IngestWebhookRequest(
        provider="simulator",
        method="POST",
        url="http://127.0.0.1/api/v1/webhooks/simulator?a=b",
        headers=[pb.Header(name=name, value=value) for name, value in signed.items()],
        body=body,
        remote_address="127.0.0.1",
    )


def _receipt(message_id: str, kind: str = "delivered", key: str = "SM1") -> dict[str, Any]:
    return {
        "event": kind,
        "message_id": message_id,
        "provider_message_id": key,
        "attempt": 1,
        "timestamp": "2026-03-01T12:00:00.123456+00:00",
    }


def _reply(key: str = "R1", **fields: Any) -> dict[str, Any]:
    return {
        "event": "reply",
        "channel": "sms",
        "provider_message_id": key,
        "from": CONTACT,
        "to": OURS,
        "body": "hi",
        "timestamp": "2026-03-01T12:00:00+00:00",
        **fields,
    }


async def _sent(book: Book) -> str:
    (message,) = await book.claimed(make_draft())
    await book.settle(settlement_for(message, "sent"), closing=[message.outbox_id])
    return message.id


async def test_a_webhook_is_logged_and_applied(stub: Any, book: Book) -> None:
    message_id = await _sent(book)
    request = _webhook([_receipt(message_id), _reply()], Cookie="secret", **{"X-Odd": "a\0b \\u0000 é"})
    answer = await stub.IngestWebhook(request)
    assert (answer.http_status, answer.applied_count, answer.duplicate_count) == (200, 2, 0)
    assert await book.story(message_id) == ["accepted", "sending", "sent", "delivered"]
    assert await book.rows("SELECT body, state, direction FROM messages WHERE id <> %s", message_id) == [
        ("hi", "received", "inbound")
    ]
    ((log_id, verdict, headers, body),) = await book.rows(
        "SELECT id::text, verdict, headers, body FROM webhook_logs"
    )
    assert (log_id, verdict, bytes(body)) == (answer.webhook_log_id, "accepted", request.body)
    assert headers["x-odd"] == "ab \\u0000 é"
    assert "cookie" not in headers
    assert await book.rows("SELECT DISTINCT webhook_log_id::text FROM provider_events") == [(log_id,)]
    event_time = "SELECT provider_time FROM message_events WHERE type = 'delivered'"
    assert await book.value(event_time) == datetime(2026, 3, 1, 12, 0, 0, 123456, UTC)


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_hundred_repeats_make_one_change(stub: Any, book: Book, at_once: bool) -> None:
    message_id = await _sent(book)
    request = _webhook([_receipt(message_id), _reply()])
    if at_once:
        answers = await asyncio.gather(*(stub.IngestWebhook(request) for _ in range(100)))
    else:
        answers = [await stub.IngestWebhook(request) for _ in range(100)]
    assert sum(answer.applied_count for answer in answers) == 2
    assert sum(answer.duplicate_count for answer in answers) == 198
    assert await book.story(message_id) == ["accepted", "sending", "sent", "delivered"]
    assert await book.value("SELECT count(*) FROM messages") == 2
    assert await book.rows("SELECT message_count, inbound_count FROM conversations") == [(2, 1)]
    assert await book.value("SELECT count(*) FROM webhook_logs") == 100


async def test_a_forged_webhook_is_refused_and_logged(stub: Any, book: Book, refusal: Refused) -> None:
    message_id = await _sent(book)
    events = [_receipt(message_id), _reply()]
    forged = [
        _webhook(events, secret="another"),
        _webhook(events, **{SIGNATURE_HEADER: ""}),
        _webhook(events, **{TIMESTAMP_HEADER: "1"}),
        _webhook(events, secret="another", **{"X-Odd": "\\u0000\0"}),
    ]
    for request in forged:
        error = await refusal(stub.IngestWebhook(request))
        assert (error.code, error.reason) == (grpc.StatusCode.PERMISSION_DENIED, "WEBHOOK_FORGED")
    assert await book.rows("SELECT provider, verdict, remote_address FROM webhook_logs") == [
        ("simulator", "forged", "127.0.0.1")
    ] * len(forged)
    assert await book.state(message_id) == "sent"
    assert await book.value("SELECT count(*) FROM provider_events") == 0


async def test_a_malformed_webhook_is_an_error_in_the_log_and_not_asked_for_again(
    stub: Any, book: Book
) -> None:
    malformed: list[tuple[Any, str]] = [
        (b"{", "not JSON"),
        (b"{}", "not a JSON array"),
        (b"[1]", "[0] is not an object"),
        ([_reply(), {**_receipt(new_id()), "attempt": "one"}], "[1].attempt"),
    ]
    for body, _ in malformed:
        answer = await stub.IngestWebhook(_webhook(body))
        assert (answer.http_status, answer.applied_count, answer.refused_count) == (200, 0, 1)
    logs = await book.rows("SELECT verdict, detail FROM webhook_logs ORDER BY id")
    assert [verdict for verdict, _ in logs] == ["malformed"] * len(malformed)
    assert all(fault in detail for (_, fault), (_, detail) in zip(malformed, logs, strict=True))
    for table in ("messages", "provider_events", "parked_receipts"):
        assert await book.value(f"SELECT count(*) FROM {table}") == 0  # noqa: S608


async def test_a_webhook_of_nobody_is_not_found(stub: Any, book: Book, refusal: Refused) -> None:
    request = _webhook([])
    request.provider = "pigeon"
    error = await refusal(stub.IngestWebhook(request))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "PROVIDER_NOT_FOUND")
    assert await book.value("SELECT count(*) FROM webhook_logs") == 0


async def test_a_reply_with_unusable_addresses_does_not_stop_its_neighbours(stub: Any, book: Book) -> None:
    answer = await stub.IngestWebhook(_webhook([_reply("R1", **{"from": "?"}), _reply("R2"), _reply("R2")]))
    assert (answer.applied_count, answer.duplicate_count, answer.refused_count) == (1, 1, 1)
    assert await book.rows("SELECT provider_message_id FROM messages") == [("R2",)]


async def test_repeats_of_different_requests_in_one_transaction_are_told_apart(
    stub: Any, book: Book, database: Database
) -> None:
    message_id = await _sent(book)
    requests = [
        _webhook([_receipt(message_id, "undelivered")]),
        _webhook([_receipt(message_id, "undelivered"), _receipt(message_id)]),
        _webhook([_receipt(message_id)]),
    ]
    async with database.hot() as connection, connection.transaction():
        await connection.execute("LOCK TABLE webhook_logs IN ACCESS EXCLUSIVE MODE")
        # Both committers wait for the lock, and the rest waits for them.
        ahead = []
        for waiting in (1, 2):
            ahead.append(asyncio.ensure_future(stub.IngestWebhook(_webhook([]))))
            await eventually(partial(_blocked, book, waiting))
        calls = [asyncio.ensure_future(stub.IngestWebhook(request)) for request in requests * 5]
        await eventually(_all_queued)
    answers = await asyncio.gather(*calls)
    await asyncio.gather(*ahead)
    assert await book.value("SELECT count(DISTINCT create_time) FROM webhook_logs") <= 3
    assert sum(answer.applied_count for answer in answers) == 2
    assert [answer.applied_count + answer.duplicate_count for answer in answers] == [1, 2, 1] * 5
    assert await book.state(message_id) == "delivered"


async def _blocked(book: Book, count: int) -> bool:
    return bool(await book.value("SELECT count(*) = %s FROM pg_locks WHERE NOT granted", count))


async def _all_queued() -> bool:
    # A unit is its receipts and one.
    depth: float = metrics.COMMIT_QUEUE._value.get()
    return depth == (2 + 3 + 2) * 5


def _inbound(event_id: str, **fields: Any) -> pb.InboundMessage:
    given = {"source": "crm", "sender": CONTACT, "recipient": OURS, "body": "hi", **fields}
    return pb.InboundMessage(event_id=event_id, **given)


async def test_inbound_messages_are_stored_once_per_source_and_event(stub: Any, book: Book) -> None:
    messages = [
        _inbound("1"),
        _inbound("1", body="a repeat is known by its key alone"),
        _inbound("1", source="other"),
        _inbound("2", sender="?"),
        _inbound(""),
        _inbound("3", body=""),
        _inbound("SM1", source="twilio"),
    ]
    request = pb.ReceiveMessagesRequest(messages=messages)
    first = (await stub.ReceiveMessages(request)).results
    assert [(result.duplicate, result.error.reason) for result in first] == [
        (False, ""),
        (True, ""),
        (False, ""),
        *[(False, "INVALID_FIELD")] * 4,
    ]
    assert [[v.field for v in result.error.field_violations] for result in first[3:]] == [
        ["sender"],
        ["event_id"],
        ["body"],
        ["source"],
    ]
    assert first[0].message_id == first[1].message_id != first[2].message_id
    again = (await stub.ReceiveMessages(request)).results
    assert [(r.message_id, r.conversation_id) for r in again] == [
        (r.message_id, r.conversation_id) for r in first
    ]
    assert [result.duplicate for result in again] == [True, True, True, *[False] * 4]
    assert await book.rows("SELECT body, state FROM messages ORDER BY id") == [("hi", "received")] * 2


async def test_inbound_messages_at_once_are_stored_once(stub: Any, book: Book) -> None:
    request = pb.ReceiveMessagesRequest(messages=[_inbound(str(number)) for number in range(10)])
    answers = await asyncio.gather(*(stub.ReceiveMessages(request) for _ in range(10)))
    assert len({result.message_id for answer in answers for result in answer.results}) == 10
    news = [result.duplicate for answer in answers for result in answer.results].count(False)
    assert (news, await book.value("SELECT count(*) FROM messages")) == (10, 10)


async def test_inbound_messages_keep_the_time_they_were_sent_at(stub: Any, book: Book) -> None:
    sent = Timestamp()
    sent.FromDatetime(datetime(2026, 3, 1, tzinfo=UTC))
    never = Timestamp(seconds=1 << 60)
    # The time of the ledger is behind by what PostgreSQL's answer took.
    before = datetime.now(UTC) - timedelta(minutes=1)
    await stub.ReceiveMessages(
        pb.ReceiveMessagesRequest(
            messages=[_inbound("1", message_time=sent), _inbound("2", message_time=never)]
        )
    )
    ((first,), (second,)) = await book.rows("SELECT message_time FROM messages ORDER BY message_time")
    assert first == datetime(2026, 3, 1, tzinfo=UTC)
    assert before <= second <= datetime.now(UTC)
