"""Receipts: news once, forward only, and nothing a provider reports is lost."""

import asyncio

import pytest

from services.kit.ids import new_id
from services.ledger.database import Database
from services.ledger.receipts import WebhookLog, log_webhooks

from .rows import LATER, Book, make_draft, settlement_for

pytestmark = pytest.mark.integration


async def _sent(book: Book) -> str:
    (message,) = await book.claimed(make_draft())
    await book.settle(settlement_for(message, "sent"), closing=[message.outbox_id])
    return message.id


async def test_a_receipt_moves_the_message_and_is_an_event(book: Book) -> None:
    message_id = await _sent(book)
    applied = await book.receive(message_id, "undelivered", event_key="k", error_code="30003", detail="off")
    assert applied is not None
    assert (applied.message_id, applied.sequence, applied.state, applied.moved) == (
        message_id,
        4,
        "undelivered",
        True,
    )
    assert await book.rows("SELECT state, error_code, error_message FROM messages") == [
        ("undelivered", "30003", "off")
    ]
    assert await book.rows(
        "SELECT type, provider, attempt_number, error_code, detail FROM message_events WHERE sequence = 4"
    ) == [("undelivered", "simulator", 1, "30003", "off")]


async def test_a_known_key_changes_nothing(book: Book) -> None:
    message_id = await _sent(book)
    assert await book.receive(message_id, "delivered", event_key="k") is not None
    before = await book.rows("SELECT * FROM messages"), await book.rows("SELECT count(*) FROM outbox")
    for state in ("delivered", "read", "undelivered"):
        assert await book.receive(message_id, state, event_key="k") is None
    assert (
        await book.rows("SELECT * FROM messages"),
        await book.rows("SELECT count(*) FROM outbox"),
    ) == before
    assert await book.story(message_id) == ["accepted", "sending", "sent", "delivered"]
    # Keys are a provider's own.
    other = await book.receive(message_id, "read", event_key="k", provider="twilio")
    assert other is not None
    assert other.moved


async def test_the_same_key_twice_at_once_is_applied_once(book: Book) -> None:
    message_id = await _sent(book)
    applied = await asyncio.gather(*(book.receive(message_id, "delivered", event_key="k") for _ in range(6)))
    assert [one is not None for one in applied].count(True) == 1
    assert await book.story(message_id) == ["accepted", "sending", "sent", "delivered"]


async def test_late_news_is_an_event_of_its_own_type(book: Book) -> None:
    message_id = await _sent(book)
    await book.receive(message_id, "read")
    before = await book.value("SELECT update_time FROM messages")
    applied = await book.receive(message_id, "delivered", detail="at last", error_code="x")
    assert applied is not None
    assert (applied.state, applied.moved) == ("read", False)
    assert await book.story(message_id) == ["accepted", "sending", "sent", "read", "receipt"]
    assert await book.value("SELECT detail FROM message_events WHERE sequence = 5") == (
        "at last reported delivered"
    )
    assert await book.rows("SELECT state, error_code, update_time FROM messages") == [("read", None, before)]


async def test_news_that_names_no_state_moves_nothing(book: Book) -> None:
    message_id = await _sent(book)
    applied = await book.receive(message_id, "", detail="opened")
    assert applied is not None
    assert (applied.state, applied.moved) == ("sent", False)
    assert await book.story(message_id) == ["accepted", "sending", "sent", "receipt"]


@pytest.mark.parametrize(
    ("reports", "states"),
    [
        (["delivered", "read"], ["delivered", "read"]),
        (["undelivered", "delivered"], ["undelivered", "delivered"]),
        (["undelivered", "read"], ["undelivered", "read"]),
        (["delivered", "undelivered"], ["delivered", "delivered"]),
        (["read", "delivered", "undelivered", "sent"], ["read"] * 4),
        (["sent", "failed", "delivered"], ["sent", "sent", "delivered"]),
    ],
)
async def test_carriers_may_correct_themselves_upwards(
    book: Book, reports: list[str], states: list[str]
) -> None:
    message_id = await _sent(book)
    seen = []
    for report in reports:
        await book.receive(message_id, report)
        seen.append(await book.state(message_id))
    assert seen == states


async def test_a_receipt_may_overtake_the_outcome(book: Book) -> None:
    (message,) = await book.claimed(make_draft())
    assert await book.receive(message.id, "delivered", provider_message_id="SM9") is not None
    assert await book.state(message.id) == "delivered"
    await book.settle(settlement_for(message, "sent", provider_message_id="SM9"), closing=[message.outbox_id])
    assert await book.state(message.id) == "delivered"
    assert await book.value("SELECT outcome FROM dispatch_attempts") == "accepted"


async def test_a_receipt_settles_what_nobody_knew(book: Book) -> None:
    (message,) = await book.claimed(make_draft())
    await book.settle(settlement_for(message, "unknown", delay=60.0, error_code="timeout"))
    await book.receive(message.id, "delivered")
    assert await book.rows("SELECT state, error_code FROM messages") == [("delivered", None)]


async def test_news_of_a_message_nobody_knows_is_kept(book: Book) -> None:
    stranger = new_id()
    for message_id, key in ((stranger, "a"), (None, "b")):
        applied = await book.receive(message_id, "delivered", event_key=key)
        assert applied is not None
        assert (applied.message_id, applied.event_key) == (None, key)
        assert await book.receive(message_id, "delivered", event_key=key) is None
    assert await book.rows("SELECT event_key, message_id::text FROM provider_events ORDER BY event_key") == [
        ("a", stranger),
        ("b", None),
    ]
    assert await book.rows("SELECT count(*) FROM outbox") == [(0,)]


async def test_raw_requests_are_kept_byte_for_byte(book: Book, database: Database) -> None:
    body = bytes(range(256))
    log = WebhookLog(
        id=new_id(),
        provider="simulator",
        method="POST",
        url='https://x.test/?a="\\{}',
        headers='{"x-a": "1"}',
        body=body,
        remote_address="::1",
        verdict="forged",
        detail=None,
    )
    async with database.hot() as connection:
        await log_webhooks(connection, [log])
    assert await book.rows("SELECT id::text, url, headers, body, verdict, detail FROM webhook_logs") == [
        (log.id, log.url, {"x-a": "1"}, body, "forged", None)
    ]


@pytest.mark.parametrize("news", ["sent", "delivered", "read"])
async def test_what_was_taken_after_all_is_not_sent_again(book: Book, news: str) -> None:
    """The provider said that it does not have it, and reports on it while it waits for its second attempt."""
    (message,) = await book.claimed(make_draft())
    await book.settle(settlement_for(message, "unknown", delay=LATER))
    await book.settle(settlement_for(message, "pending", outcome="unknown", delay=0.0))
    assert await book.state(message.id) == "pending"
    await book.receive(message.id, news)
    assert await book.rows("SELECT state, next_attempt_time FROM messages WHERE id = %s", message.id) == [
        (news, None)
    ]
    retry = await book.value("SELECT id::text FROM outbox WHERE subject = 'posthouse.dispatch.sms.retry'")
    assert await book.claim([retry], owner=2) == ([], [retry])


async def test_an_outcome_that_comes_late_keeps_it_from_being_sent_again(book: Book) -> None:
    """Its dispatcher had lost its lease, and another has asked too early."""
    (message,) = await book.claimed(make_draft())
    await book.settle(settlement_for(message, "unknown", delay=LATER))
    await book.settle(settlement_for(message, "pending", outcome="unknown", delay=0.0))
    await book.settle(settlement_for(message, "sent"))
    assert await book.story(message.id) == ["accepted", "sending", "unknown", "retrying", "sent"]
    assert await book.value("SELECT outcome FROM dispatch_attempts WHERE message_id = %s", message.id) == (
        "accepted"
    )


async def test_a_failure_of_an_earlier_attempt_leaves_the_next_to_be_made(book: Book) -> None:
    (message,) = await book.claimed(make_draft())
    await book.settle(settlement_for(message, "pending", delay=LATER))
    await book.receive(message.id, "undelivered")
    assert await book.state(message.id) == "pending"
    assert await book.value("SELECT next_attempt_time > now() FROM messages WHERE id = %s", message.id)
