"""Settling: attempt, state, event, retry, dead letter and envelope move together, and never backwards."""

from typing import Any

import pytest

from services.ledger.claims import ClaimedMessage

from .rows import Book, make_draft, settlement_for

pytestmark = pytest.mark.integration

_ATTEMPT = (
    "SELECT number, provider, outcome, provider_message_id, error_code, error_message, route_reason,"
    " end_time >= start_time FROM dispatch_attempts WHERE message_id = %s ORDER BY number"
)
_FACTS = "SELECT state, error_code, error_message, provider_message_id FROM messages WHERE id = %s"


async def _envelope_count(book: Book, message: ClaimedMessage) -> int:
    return int(await book.value("SELECT count(*) FROM outbox WHERE id = %s", message.outbox_id))


async def test_accepted_is_sent(book: Book) -> None:
    (message,) = await book.claimed(make_draft())
    settlement = settlement_for(message, "sent", provider_message_id="SM1", route_reason="first")
    (settled,) = await book.settle(settlement, closing=[message.outbox_id])
    assert (settled.id, settled.sequence, settled.state, settled.moved) == (message.id, 3, "sent", True)
    assert await book.rows(_FACTS, message.id) == [("sent", None, None, "SM1")]
    assert await book.story(message.id) == ["accepted", "sending", "sent"]
    assert await book.rows(_ATTEMPT, message.id) == [
        (1, "simulator", "accepted", "SM1", None, None, "first", True)
    ]
    assert await _envelope_count(book, message) == 0


async def test_retryable_waits_in_a_row_of_its_own(book: Book) -> None:
    messages = await book.claimed(*(make_draft() for _ in range(3)))
    delays = (30.01, 30.05, 90.0)
    await book.settle(
        *(
            settlement_for(message, "pending", delay=delay, error_code="busy", error_message="later")
            for message, delay in zip(messages, delays, strict=True)
        ),
        closing=[messages[0].outbox_id],
    )
    retries = await book.rows(
        "SELECT subject, message_ids::text[], extract(epoch FROM due_time - create_time)::float8 FROM outbox"
        " WHERE subject LIKE 'posthouse.dispatch.%%' ORDER BY due_time"
    )
    # Rows for each tenth of a second: what is due together is published together.
    assert [(subject, sorted(ids)) for subject, ids, _ in retries] == [
        ("posthouse.dispatch.sms.retry", [messages[0].id, messages[1].id]),
        ("posthouse.dispatch.sms.retry", [messages[2].id]),
    ]
    assert [seconds for _, _, seconds in retries] == pytest.approx([30.01, 90.0])
    assert await book.story(messages[0].id) == ["accepted", "sending", "retrying"]
    assert await book.rows(_FACTS, messages[0].id) == [("pending", "busy", "later", None)]
    waits = "SELECT extract(epoch FROM next_attempt_time - update_time)::float8 FROM messages WHERE id = %s"
    assert await book.value(waits, messages[2].id) == pytest.approx(90.0)
    assert await _envelope_count(book, messages[0]) == 0


async def test_unknown_waits_to_be_asked_for(book: Book) -> None:
    (message,) = await book.claimed(make_draft(priority="high"))
    await book.settle(settlement_for(message, "unknown", delay=5.0, error_code="timeout"))
    assert await book.rows(_FACTS, message.id) == [("unknown", "timeout", None, None)]
    assert await book.rows(
        "SELECT message_ids::text[] FROM outbox WHERE subject = 'posthouse.dispatch.sms.inquiry'"
    ) == [([message.id],)]
    assert await book.value("SELECT next_attempt_time FROM messages") is None
    assert await _envelope_count(book, message) == 1, "the envelope closes with its last message only"


async def test_what_is_given_up_leaves_a_dead_letter_in_the_same_transaction(book: Book) -> None:
    rejected, fine = await book.claimed(make_draft(), make_draft(channel="sms"))
    await book.settle(
        settlement_for(rejected, "failed", dead_reason="rejected", error_code="21211", error_message="no"),
        settlement_for(fine, "sent"),
        closing=[rejected.outbox_id],
    )
    assert await book.state(rejected.id) == "failed"
    assert await book.rows(
        "SELECT message_id::text, channel, provider, reason, error_code, error_message, attempt_count,"
        " replay_time FROM dead_letters"
    ) == [(rejected.id, "sms", "simulator", "rejected", "21211", "no", 1, None)]
    assert await book.rows(
        "SELECT message_ids::text[], due_time <= now() FROM outbox WHERE subject = 'posthouse.deadletter'"
    ) == [([rejected.id], True)]
    assert await book.story(rejected.id) == ["accepted", "sending", "failed"]


async def test_given_up_without_an_attempt_has_no_attempt_row(book: Book) -> None:
    (message,) = await book.claimed(make_draft())
    await book.settle(
        settlement_for(
            message, "failed", outcome=None, provider=None, dead_reason="expired", error_code="expired"
        )
    )
    assert await book.rows(_ATTEMPT, message.id) == []
    assert await book.rows("SELECT reason, provider FROM dead_letters") == [("expired", None)]


async def test_attempts_are_counted_over_retries(book: Book) -> None:
    (message,) = await book.claimed(make_draft())
    await book.settle(
        settlement_for(message, "pending", delay=0.0, error_code="busy"), closing=[message.outbox_id]
    )
    retry = await book.value("SELECT id::text FROM outbox WHERE subject = 'posthouse.dispatch.sms.retry'")
    ((again,), _) = await book.claim([retry])
    assert (again.id, again.attempt, again.event_count) == (message.id, 2, 4)
    await book.settle(settlement_for(again, "sent", provider_message_id="SM2"), closing=[retry])
    assert await book.story(message.id) == ["accepted", "sending", "retrying", "sending", "sent"]
    assert [row[:3] for row in await book.rows(_ATTEMPT, message.id)] == [
        (1, "simulator", "retryable"),
        (2, "simulator", "accepted"),
    ]
    assert await book.rows(_FACTS, message.id) == [("sent", None, None, "SM2")]


_LATE: dict[str, dict[str, Any]] = {
    "sent": {},
    "pending": {"delay": 5.0, "error_code": "busy", "error_message": "later"},
    "unknown": {"delay": 5.0, "error_code": "timeout"},
    "failed": {"dead_reason": "rejected", "error_code": "21211"},
}


@pytest.mark.parametrize("news", ["delivered", "undelivered", "failed"])
async def test_an_outcome_that_a_receipt_has_overtaken_moves_nothing(book: Book, news: str) -> None:
    for late, fields in _LATE.items():
        (message,) = await book.claimed(make_draft())
        applied = await book.receive(message.id, news, error_code="30003", detail="so it went")
        assert applied is not None
        assert applied.moved
        (settled,) = await book.settle(settlement_for(message, late, **fields), closing=[message.outbox_id])
        assert (settled.state, settled.moved, settled.sequence) == (news, False, 4)
        assert await book.rows(_FACTS, message.id) == [(news, "30003", "so it went", "SM1")]
        # An event that claimed the state of the outcome would take watchers back.
        assert await book.story(message.id) == ["accepted", "sending", news, "receipt"]
        assert [row[0] for row in await book.rows(_ATTEMPT, message.id)] == [1]
    assert await book.value("SELECT count(next_attempt_time) FROM messages") == 0
    assert await book.value("SELECT count(*) FROM dead_letters") == 0
    assert await book.value("SELECT count(*) FROM outbox WHERE subject LIKE 'posthouse.dispatch.%%'") == 0


async def test_an_outcome_of_an_earlier_attempt_moves_nothing(book: Book) -> None:
    (message,) = await book.claimed(make_draft())
    await book.settle(settlement_for(message, "unknown", delay=0.0))
    await book.settle(settlement_for(message, "pending", outcome="unknown", delay=0.0))
    retry = await book.value(
        "SELECT id::text FROM outbox WHERE subject = 'posthouse.dispatch.sms.retry' AND owner IS NULL"
    )
    ((again,), _) = await book.claim([retry])
    (settled,) = await book.settle(settlement_for(message, "sent", provider_message_id="SM1"))
    assert (settled.state, settled.moved) == ("sending", False)
    assert await book.state(message.id) == "sending"
    # What is known of the attempt is kept all the same.
    assert [row[:3] for row in await book.rows(_ATTEMPT, message.id)] == [(1, "simulator", "accepted")]
    (settled,) = await book.settle(settlement_for(again, "sent"))
    assert settled.moved


async def test_an_attempt_that_is_known_is_not_made_unknown_again(book: Book) -> None:
    (message,) = await book.claimed(make_draft())
    await book.settle(settlement_for(message, "unknown", delay=1.0))
    await book.settle(settlement_for(message, "sent", provider_message_id="SM1"))
    await book.settle(settlement_for(message, "unknown", delay=1.0))
    assert [row[:4] for row in await book.rows(_ATTEMPT, message.id)] == [(1, "simulator", "accepted", "SM1")]
    assert await book.state(message.id) == "sent"


async def test_texts_of_a_provider_that_no_column_takes_do_not_stop_the_settlement(book: Book) -> None:
    (message,) = await book.claimed(make_draft())
    (settled,) = await book.settle(
        settlement_for(message, "sent", provider_message_id="a\0b", error_code="\ud800", error_message="\0")
    )
    assert settled.moved
    assert await book.rows(_FACTS, message.id) == [("sent", "\ufffd", "", "ab")]


async def test_envelopes_close_without_settlements(book: Book) -> None:
    (message,) = await book.claimed(make_draft())
    assert await book.settle(closing=[message.outbox_id]) == []
    assert await _envelope_count(book, message) == 0


async def test_an_envelope_that_another_has_taken_over_is_left_to_it(book: Book) -> None:
    (message,) = await book.claimed(make_draft(), owner=1)
    await book.rows("UPDATE outbox SET owner = 2 WHERE id = %s", message.outbox_id)
    await book.settle(settlement_for(message, "sent"), closing=[message.outbox_id], owner=1)
    assert await book.state(message.id) == "sent"
    assert await book.value("SELECT owner FROM outbox WHERE id = %s", message.outbox_id) == 2
