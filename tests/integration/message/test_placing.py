"""Receipts that say less than all: which message, and which attempt of it."""

from dataclasses import replace

import pytest

from services.kit.ids import new_id
from services.ledger.database import Database
from services.ledger.receipts import ReceiptRow
from services.message.placing import distinct_receipts, park_unplaced
from services.providers.base import Receipt
from tests.integration.ledger.rows import LATER, Book, make_draft, settlement_for

pytestmark = pytest.mark.integration

_RETRY = "SELECT id::text FROM outbox WHERE subject = 'posthouse.dispatch.sms.retry'"


async def _tried_twice(book: Book) -> str:
    """Return a message whose two attempts were both taken, as F and S."""
    (first,) = await book.claimed(make_draft())
    await book.settle(settlement_for(first, "unknown", delay=LATER))
    await book.settle(settlement_for(first, "pending", outcome="unknown", delay=0.0))
    ((second,), _) = await book.claim([await book.value(_RETRY)])
    await book.settle(settlement_for(second, "sent", provider_message_id="S"))
    await book.settle(settlement_for(first, "sent", provider_message_id="F"))
    return first.id


async def test_news_without_an_attempt_is_of_the_one_that_has_the_providers_id(
    book: Book, database: Database
) -> None:
    message_id, stranger = await _tried_twice(book), new_id()
    plain = ReceiptRow("simulator", "", message_id, "undelivered", 0, None, None, None, None, None)
    rows = [
        replace(plain, event_key=str(number), message_id=named, attempt=attempt, provider_message_id=given)
        for number, (named, attempt, given) in enumerate(
            [
                (message_id, 0, "F"),
                (message_id, 0, "S"),
                (message_id, 0, "nobody's"),
                (message_id, 2, "F"),
                (message_id, 0, None),
                (stranger, 0, "F"),
                (None, 0, "F"),
            ]
        )
    ]
    placed, parked = await park_unplaced(database, rows)
    assert parked == 0
    assert [(row.message_id, row.attempt) for row in placed] == [
        *[(message_id, attempt) for attempt in (1, 2, 0, 2, 0)],
        (stranger, 0),
        (message_id, 1),
    ]


def test_what_failed_at_a_provider_is_undelivered() -> None:
    states = ["failed", "undelivered", "delivered", ""]
    given = [Receipt(event_key=str(number), state=state) for number, state in enumerate(states)]
    assert [row.state for row in distinct_receipts("simulator", given, "log")] == [
        *["undelivered", "undelivered", "delivered", ""]
    ]
