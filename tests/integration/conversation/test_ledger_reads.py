"""Reads of messages, events and attempts."""

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from posthouse.v1 import dispatch_pb2, message_pb2
from services.kit.errors import NotFoundError
from services.kit.ids import new_id
from services.ledger import reads
from services.ledger.database import Database

from .conftest import CONTACT, OURS, START, Seed

pytestmark = pytest.mark.integration


async def test_message_has_every_column(database: Database, seed: Seed) -> None:
    thread = await seed.conversation("ann@example.com", "us@example.com", "email")
    message_id = await seed.message(
        thread,
        channel="email",
        direction="outbound",
        state="sent",
        sender="us@example.com",
        recipient="ann@example.com",
        recipient_original="Ann <ann@EXAMPLE.com>",
        subject="Hi",
        html="<p>hi</p>",
        attachments=[
            {"url": "https://example.com/a.png", "content_type": "image/png"},
            {"content": "aGVsbG8=", "content_type": "text/plain", "filename": "a.txt"},
        ],
        metadata={"order": "7"},
        priority="high",
        segment_count=2,
        segment_encoding="ucs2",
        send_time=START,
        expire_time=START,
        next_attempt_time=START,
        attempt_count=3,
        provider="simulator",
        provider_message_id="SM1",
        error_code="30008",
        error_message="later",
        transactional=True,
        language="en",
        language_confidence=0.9,
        reply_to="desk@example.com",
    )
    async with database.read() as connection:
        message = await reads.get_message(connection, message_id)
    assert message is not None
    unset = {field.name for field in message.DESCRIPTOR.fields} - {f.name for f, _ in message.ListFields()}
    # Why content cannot be opened: these columns are not sealed.
    assert unset == {"content_error"}
    assert message.channel == message_pb2.CHANNEL_EMAIL
    assert message.state == message_pb2.MESSAGE_STATE_SENT
    assert message.priority == message_pb2.PRIORITY_HIGH
    assert message.segment_encoding == message_pb2.SEGMENT_ENCODING_UCS2
    assert message.sender_original == "us@example.com"
    assert message.recipient_original == "Ann <ann@EXAMPLE.com>"
    assert message.attachments[0].url == "https://example.com/a.png"
    assert message.attachments[1].content == b"hello"
    assert message.send_time.ToJsonString() == "2026-03-01T12:00:00Z"
    assert dict(message.metadata) == {"order": "7"}


async def test_nulls_are_empty(database: Database, seed: Seed) -> None:
    message_id = await seed.message(await seed.conversation())
    async with database.read() as connection:
        message = await reads.get_message(connection, message_id)
        missing = await reads.get_message(connection, new_id())
    assert missing is None
    assert message is not None
    assert (message.sender_original, message.recipient_original) == (CONTACT, OURS)
    assert not message.HasField("send_time")
    assert not message.attachments
    assert message.segment_encoding == message_pb2.SEGMENT_ENCODING_UNSPECIFIED


async def test_list_messages_pages_without_gap_or_repeat(database: Database, seed: Seed) -> None:
    thread = await seed.conversation()
    # All at one time, so that the id has to break the tie.
    made = [await seed.message(thread, message_time=START) for _ in range(7)]
    other = await seed.message(await seed.conversation("+15550001111"))
    for conversation, expected in ((thread, made), ("", [*made, other])):
        seen: list[str] = []
        async with database.read() as connection:
            while page := await reads.list_messages(
                connection, conversation_id=conversation, before=seen[-1] if seen else None, limit=3
            ):
                seen += [message.id for message in page]
        assert seen == expected[::-1]


async def test_conversation_is_listed_by_message_time(database: Database, seed: Seed) -> None:
    thread = await seed.conversation()
    first, second = await seed.message(thread), await seed.message(thread)
    late = await seed.message(thread, message_time=START)  # committed last, written first
    async with database.read() as connection:
        page = await reads.list_messages(connection, conversation_id=thread, limit=2)
        rest = await reads.list_messages(connection, conversation_id=thread, before=page[-1].id, limit=2)
    assert [message.id for message in [*page, *rest]] == [second, first, late]


@pytest.mark.parametrize(
    ("narrowed", "expected"),
    [
        ({"channel": "mms"}, {"mms"}),
        ({"state": "sent"}, {"mms", "sms"}),
        ({"direction": "inbound"}, {"reply"}),
        ({"state": "sent", "channel": "sms", "direction": "outbound"}, {"sms"}),
        ({"state": "failed"}, set()),
    ],
)
async def test_list_messages_filters(
    database: Database, seed: Seed, narrowed: dict[str, str], expected: set[str]
) -> None:
    thread = await seed.conversation()
    await seed.message(thread, body="mms", channel="mms", direction="outbound", state="sent")
    await seed.message(thread, body="sms", direction="outbound", state="sent")
    await seed.message(thread, body="reply")
    async with database.read() as connection:
        found = await reads.list_messages(connection, **narrowed, limit=10)
        found_there = await reads.list_messages(connection, conversation_id=thread, **narrowed, limit=10)
    assert {message.body for message in found} == expected
    assert {message.body for message in found_there} == expected


async def test_events_come_in_order_and_in_pages(database: Database, seed: Seed) -> None:
    message_id = await seed.message(await seed.conversation())
    for sequence, type_ in ((2, "sending"), (1, "accepted"), (3, "sent")):
        await seed.event(
            message_id, sequence, type_, attempt_number=min(sequence - 1, 1), provider="simulator"
        )
    async with database.read() as connection:
        page = await reads.list_message_events(connection, message_id, 0, 2)
        rest = await reads.list_message_events(connection, message_id, page[-1].sequence, 2)
        none = await reads.list_message_events(connection, message_id, 3, 2)
        with pytest.raises(NotFoundError):
            await reads.list_message_events(connection, new_id(), 0, 2)
    assert [event.type for event in page] == ["accepted", "sending"]
    assert [event.type for event in rest] == ["sent"]
    assert none == []


async def test_attempt_under_way_is_shown(database: Database, seed: Seed) -> None:
    thread = await seed.conversation()
    message_id = await seed.message(
        thread, direction="outbound", state="sending", attempt_count=2, attempt_time=START, provider="other"
    )
    await seed.attempt(message_id, 1, "retryable", error_code="20429")
    async with database.read() as connection:
        first, second = await reads.list_attempts(connection, message_id)
    assert first.outcome == dispatch_pb2.ATTEMPT_OUTCOME_RETRYABLE
    assert first.error_code == "20429"
    assert (second.number, second.provider, second.outcome) == (2, "other", 0)
    assert second.start_time.ToJsonString() == "2026-03-01T12:00:00Z"
    assert not second.HasField("end_time")


@pytest.mark.parametrize(("state", "attempts"), [("sent", 1), ("pending", 1), ("sending", 2)])
async def test_only_a_message_being_sent_has_an_attempt_under_way(
    database: Database, seed: Seed, state: str, attempts: int
) -> None:
    thread = await seed.conversation()
    message_id = await seed.message(thread, direction="outbound", state=state, attempt_count=attempts)
    await seed.attempt(message_id, 1, "accepted", provider_message_id="SM1")
    untried = await seed.message(thread, direction="outbound", state="pending")
    async with database.read() as connection:
        assert len(await reads.list_attempts(connection, message_id)) == attempts
        assert await reads.list_attempts(connection, untried) == []
        with pytest.raises(NotFoundError):
            await reads.list_attempts(connection, new_id())


async def test_lists_walk_an_index(database: Database, seed: Seed, explain: Callable[..., Any]) -> None:
    thread = await seed.conversation()
    before = await seed.message(thread)
    async with database.write() as connection:
        await connection.execute(
            sa.text(
                "INSERT INTO messages (id, conversation_id, channel, direction, state, sender, recipient,"
                " body, priority, create_time, update_time, message_time)"
                " SELECT uuidv7(n * interval '-1 second'),"
                " CASE WHEN n % 5 = 0 THEN CAST(:thread AS uuid) ELSE gen_random_uuid() END,"
                " 'sms', 'inbound', 'received', '+15559876543', '+15551234567', '', 'normal', now(), now(),"
                " now() - n * interval '1 second' FROM generate_series(1, 10000) AS n"
            ),
            {"thread": thread},
        )
        await connection.execute(sa.text("ANALYZE messages"))
    for options in ({}, {"before": before}):
        plan = await explain(reads.list_messages, **options, limit=50)
        assert "Index Scan Backward using messages_pkey" in plan
        plan = await explain(reads.list_messages, conversation_id=thread, **options, limit=50)
        assert "Index Scan using messages_conversation" in plan
        assert "Sort" not in plan
