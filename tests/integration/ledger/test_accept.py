"""Intake: everything of a message in one transaction, and repeats left out of it."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from services.kit.ids import new_id
from services.ledger import accept as accept_module
from services.ledger.accept import Intake, accept
from services.ledger.database import Database
from services.ledger.drafts import Draft

from .rows import CONTACT, LATER, OURS, Book, make_draft, make_inbound

pytestmark = pytest.mark.integration

_COUNTS = """
SELECT (SELECT count(*) FROM messages), (SELECT count(*) FROM message_events),
  (SELECT count(*) FROM conversations), (SELECT count(*) FROM outbox),
  (SELECT count(*) FROM idempotency_keys), (SELECT count(*) FROM provider_events)
"""


def _keyed(request_id: str, **fields: Any) -> Draft:
    return make_draft(request_id=request_id, request_hash=b"\x00\xffhash", **fields)


async def test_a_send_becomes_message_event_conversation_and_two_outbox_rows(book: Book) -> None:
    message_id = new_id()
    acceptance = await book.accept(_keyed("key"), caller="ann", ids=[message_id])
    assert acceptance.stored == {message_id}
    (envelope,) = acceptance.envelopes
    assert (envelope.subject, envelope.message_ids) == ("posthouse.dispatch.sms", [message_id])
    assert await book.rows(_COUNTS) == [(1, 1, 1, 2, 1, 0)]
    assert await book.rows("SELECT state, caller, create_time, message_time FROM messages") == [
        ("pending", "ann", acceptance.create_time, acceptance.create_time)
    ]
    assert await book.story(message_id) == ["accepted"]
    assert await book.rows(
        "SELECT caller, request_id, request_hash, message_id::text FROM idempotency_keys"
    ) == [("ann", "key", b"\x00\xffhash", message_id)]
    outbox = await book.rows(
        "SELECT id::text, subject, message_ids::text[], due_time - create_time, owner"
        " FROM outbox ORDER BY subject"
    )
    wait = timedelta(seconds=LATER)
    assert outbox == [
        (envelope.outbox_id, "posthouse.dispatch.sms", [message_id], wait, None),
        (acceptance.event_outbox_id, "posthouse.event.message", [message_id], wait, None),
    ]


async def test_a_row_that_postgresql_refuses_leaves_nothing_of_its_neighbours(book: Book) -> None:
    with pytest.raises(psycopg.DataError):
        await book.accept(make_draft(), make_draft(metadata='{"a": "\\u0000"}'), make_inbound("1"))
    assert await book.rows(_COUNTS) == [(0, 0, 0, 0, 0, 0)]


async def test_texts_are_stored_as_they_are(book: Book) -> None:
    awkward = ['"', "\\", "{}", "a,b", "NULL", "", " ", "\n\t", "\\x00", '\\"}', "é😀\u2028", "%(id)s"]
    drafts = [make_draft(body=text, subject=text) for text in awkward]
    await book.accept(*drafts)
    stored = await book.rows("SELECT body, subject FROM messages ORDER BY id")
    assert stored == [(text, text) for text in awkward]


async def test_repeats_of_a_key_are_left_out(book: Book) -> None:
    first = await book.accept(_keyed("a"), _keyed("b"), caller="ann")
    mixed = [new_id() for _ in range(4)]
    again = await book.accept(_keyed("a"), _keyed("c"), _keyed("b"), make_draft(), caller="ann", ids=mixed)
    assert again.stored == {mixed[1], mixed[3]}
    assert [envelope.message_ids for envelope in again.envelopes] == [[mixed[1], mixed[3]]]
    nothing = await book.accept(_keyed("a"), _keyed("c"), caller="ann")
    assert (nothing.stored, nothing.envelopes) == (frozenset(), [])
    other = await book.accept(_keyed("a"), caller="bob")
    assert len(first.stored) + len(other.stored) == 3
    assert await book.rows(_COUNTS) == [(5, 5, 1, 6, 4, 0)]
    assert await book.value("SELECT message_count FROM conversations") == 5


async def test_repeats_of_an_inbound_event_are_left_out(book: Book) -> None:
    await book.accept(make_inbound("1"), make_inbound("2"))
    again = await book.accept(make_inbound("1"), make_inbound("1", source="twilio"))
    assert len(again.stored) == 1
    assert await book.rows(_COUNTS) == [(3, 3, 1, 2, 0, 3)]


async def test_concurrent_twins_become_one_row(book: Book, database: Database) -> None:
    twins = [Intake(new_id(), _keyed("key"), "ann") for _ in range(2)]
    async with database.hot() as first, database.hot() as second:
        async with first.transaction():
            won = await accept(first, twins[:1], republish_after=LATER)
            waiting = asyncio.create_task(accept(second, twins[1:], republish_after=LATER))
            done, _ = await asyncio.wait([waiting], timeout=0.2)
            assert not done, "the twin must wait for what becomes of the first"
        lost = await waiting
    assert [*won.stored] == [twins[0].id]
    assert [*lost.stored] == []
    assert await book.rows(_COUNTS) == [(1, 1, 1, 2, 1, 0)]


async def test_the_twin_of_one_that_was_rolled_back_is_stored(book: Book, database: Database) -> None:
    twins = [Intake(new_id(), _keyed("key"), "ann") for _ in range(2)]
    async with database.hot() as first, database.hot() as second:
        async with first.transaction(force_rollback=True):
            await accept(first, twins[:1], republish_after=LATER)
            waiting = asyncio.create_task(accept(second, twins[1:], republish_after=LATER))
            await asyncio.wait([waiting], timeout=0.1)
        assert (await waiting).stored == {twins[1].id}
    assert await book.rows(_COUNTS) == [(1, 1, 1, 2, 1, 0)]


async def test_scheduled_messages_wait_in_the_outbox_until_they_are_due(book: Book) -> None:
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    times = [soon, None, soon, soon + timedelta(days=1)]
    ids = [new_id() for _ in times]
    acceptance = await book.accept(*(make_draft(send_time=time) for time in times), ids=ids)
    assert [envelope.message_ids for envelope in acceptance.envelopes] == [[ids[1]]]
    due = await book.rows(
        "SELECT message_ids::text[], due_time FROM outbox"
        " WHERE subject LIKE 'posthouse.dispatch.%%' AND id <> %s ORDER BY due_time",
        acceptance.envelopes[0].outbox_id,
    )
    assert due == [([ids[0], ids[2]], soon), ([ids[3]], soon + timedelta(days=1))]
    assert await book.rows("SELECT state, next_attempt_time FROM messages ORDER BY id") == [
        ("pending" if time is None else "scheduled", time) for time in times
    ]
    assert [(await book.story(one))[0] for one in ids] == ["scheduled", "accepted", "scheduled", "scheduled"]


async def test_envelopes_are_split_by_lane_and_bounded(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accept_module, "ENVELOPE_SIZE", 2)
    drafts = [
        *(make_draft() for _ in range(5)),
        make_draft(priority="high"),
        make_draft(channel="mms", priority="low"),
        make_inbound("1"),
    ]
    acceptance = await book.accept(*drafts)
    assert [(envelope.subject, len(envelope.message_ids)) for envelope in acceptance.envelopes] == [
        ("posthouse.dispatch.sms", 2),
        ("posthouse.dispatch.sms", 2),
        ("posthouse.dispatch.sms", 1),
        ("posthouse.dispatch.sms.high", 1),
        ("posthouse.dispatch.mms.low", 1),
    ]
    for envelope in acceptance.envelopes:
        assert await book.value(
            "SELECT message_ids::text[] FROM outbox WHERE id = %s", envelope.outbox_id
        ) == (envelope.message_ids)


async def test_conversations_count_what_joins_them(book: Book) -> None:
    await book.accept(make_draft(), make_draft(channel="mms"), make_inbound("1"))
    await book.rows("UPDATE conversations SET archive_time = now()")
    await book.accept(make_draft())
    counts = "SELECT message_count, inbound_count, archive_time IS NULL, participant_a, participant_b"
    assert await book.rows(f"{counts} FROM conversations") == [(4, 1, False, OURS, CONTACT)]
    last = new_id()
    await book.accept(make_inbound("2"), ids=[last])
    assert await book.rows(f"{counts}, last_message_id::text FROM conversations") == [
        (5, 2, True, OURS, CONTACT, last)
    ]
    await book.accept(make_draft(sender="a@x.test", recipient="b@x.test", channel="email"))
    assert await book.value("SELECT count(*) FROM conversations") == 2
