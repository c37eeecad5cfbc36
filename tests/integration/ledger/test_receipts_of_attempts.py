"""Receipts of earlier attempts: a failure says nothing of the attempt under way, an arrival ends them all."""

import pytest

from services.kit.ids import new_id
from services.ledger.claims import ClaimedMessage
from services.ledger.database import Database
from services.ledger.inquiries import claim_orphans

from .rows import LATER, Book, make_draft, settlement_for

pytestmark = pytest.mark.integration

FIRST, SECOND = "SM-first", "SM-second"
_RETRY = "SELECT id::text FROM outbox WHERE subject = 'posthouse.dispatch.sms.retry'"


async def _waiting_again(book: Book) -> ClaimedMessage:
    """Return a message whose first attempt was cut short, and which its provider says it does not have."""
    (message,) = await book.claimed(make_draft())
    await book.settle(settlement_for(message, "unknown", delay=LATER))
    await book.settle(
        settlement_for(message, "pending", outcome="unknown", delay=0.0), closing=[message.outbox_id]
    )
    return message


async def _second_attempt(book: Book) -> ClaimedMessage:
    await _waiting_again(book)
    ((message,), _) = await book.claim([await book.value(_RETRY)])
    assert message.attempt == 2
    return message


async def _told(book: Book, message: ClaimedMessage, state: str, attempt: int) -> bool:
    applied = await book.receive(
        message.id, state, attempt=attempt, provider_message_id=FIRST if attempt == 1 else SECOND
    )
    assert applied is not None
    return applied.moved


@pytest.mark.parametrize("failure", ["undelivered", "failed"])
@pytest.mark.parametrize("state", ["sending", "unknown", "pending", "sent"])
async def test_a_failure_of_the_first_attempt_leaves_the_second_its_own_end(
    book: Book, failure: str, state: str
) -> None:
    message = await _second_attempt(book)
    if state != "sending":
        await book.settle(settlement_for(message, state, provider_message_id=SECOND, delay=LATER))
    before = await book.rows("SELECT state, error_code, next_attempt_time FROM messages")
    assert not await _told(book, message, failure, 1)
    assert await book.rows("SELECT state, error_code, next_attempt_time FROM messages") == before
    assert (await book.story(message.id))[-1] == "receipt"
    assert await book.rows(
        "SELECT attempt_number, detail FROM message_events ORDER BY sequence DESC LIMIT 1"
    ) == [(1, f"reported {failure}")]


async def test_what_the_second_attempt_comes_to_is_recorded_after_a_failure_of_the_first(book: Book) -> None:
    message = await _second_attempt(book)
    await _told(book, message, "undelivered", 1)
    await book.settle(settlement_for(message, "pending", delay=0.0))
    # It is to be tried again, and is.
    assert await book.state(message.id) == "pending"
    retry = await book.value(f"{_RETRY} ORDER BY create_time DESC LIMIT 1")
    ((third,), _) = await book.claim([retry])
    await book.settle(settlement_for(third, "sent", provider_message_id="SM-third"))
    assert await _told(book, message, "undelivered", 2) is False
    assert await book.state(message.id) == "sent"
    assert await book.receive(message.id, "undelivered", attempt=3, provider_message_id="SM-third")
    assert await book.state(message.id) == "undelivered"


@pytest.mark.parametrize("proof", ["delivered", "read"])
@pytest.mark.parametrize("state", ["sending", "unknown", "pending", "sent", "failed"])
async def test_an_arrival_of_the_first_attempt_is_the_truth(book: Book, proof: str, state: str) -> None:
    message = await _second_attempt(book)
    if state != "sending":
        dead = "rejected" if state == "failed" else None
        await book.settle(settlement_for(message, state, delay=LATER, dead_reason=dead))
    assert await _told(book, message, proof, 1)
    assert await book.rows("SELECT state, provider_message_id, next_attempt_time FROM messages") == [
        (proof, FIRST, None)
    ]
    # No failure takes it back, whichever attempt it is of.
    assert not await _told(book, message, "undelivered", 2)
    assert await book.state(message.id) == proof


async def test_what_was_cancelled_and_has_arrived_all_the_same_says_so(book: Book) -> None:
    message = await _waiting_again(book)
    await book.rows("UPDATE messages SET state = 'cancelled'")
    assert not await _told(book, message, "sent", 1)
    assert await _told(book, message, "delivered", 1)
    assert await book.state(message.id) == "delivered"


async def test_a_state_that_rests_on_the_first_attempt_follows_it(book: Book) -> None:
    """The second was refused; the first had been taken after all, and then failed."""
    message = await _second_attempt(book)
    assert await _told(book, message, "sent", 1)
    await book.settle(settlement_for(message, "failed", dead_reason="rejected"))
    assert await book.state(message.id) == "sent"
    assert await _told(book, message, "undelivered", 1)
    assert await book.state(message.id) == "undelivered"


async def test_a_late_outcome_of_the_first_attempt_does_not_name_the_message_after_it(book: Book) -> None:
    message = await _second_attempt(book)
    await book.settle(settlement_for(message, "sent", provider_message_id=SECOND, provider="second"))
    first = settlement_for(message, "sent", attempt=1, provider_message_id=FIRST, provider="first")
    await book.settle(first)
    assert await book.rows("SELECT provider, provider_message_id FROM messages") == [("second", SECOND)]
    assert await book.rows("SELECT number, provider_message_id FROM dispatch_attempts ORDER BY number") == [
        (1, FIRST),
        (2, SECOND),
    ]


async def test_news_that_names_no_attempt_counts_for_the_present_one(book: Book) -> None:
    message = await _second_attempt(book)
    assert await book.receive(message.id, "undelivered", attempt=0, provider_message_id=None)
    assert await book.state(message.id) == "undelivered"


@pytest.mark.parametrize(
    ("attempt", "recorded"), [(1, ("unknown", None, "dispatcher_lost")), (2, ("accepted", SECOND, None))]
)
async def test_a_receipt_proves_the_attempt_it_is_of(
    book: Book, database: Database, attempt: int, recorded: tuple[str, str | None, str | None]
) -> None:
    """Its dispatcher has died, and nobody else knows of the second attempt."""
    message = await _second_attempt(book)
    assert await _told(book, message, "sent", attempt)
    await book.rows("UPDATE outbox SET owner = 0 WHERE id = %s", message.outbox_id)
    _, taken = await book.claim([message.outbox_id], owner=2)
    async with database.hot() as connection:
        orphans = await claim_orphans(
            connection, taken, owner=2, own=[], lease=LATER, inquiry_delay=LATER, event_outbox_id=new_id()
        )
    assert orphans == []
    assert await book.rows(
        "SELECT outcome, provider_message_id, error_code FROM dispatch_attempts WHERE number = 2"
    ) == [recorded]
