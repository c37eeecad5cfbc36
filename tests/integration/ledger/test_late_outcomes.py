"""Outcomes of messages that have been erased meanwhile leave nothing behind."""

import asyncio

import pytest

from services.kit.ids import new_id
from services.ledger.database import Database
from services.ledger.erasing import delete_messages
from services.ledger.outcomes import settle

from .rows import LATER, Book, eventually, make_draft, settlement_for

pytestmark = pytest.mark.integration

_LEFT = (
    "SELECT (SELECT count(*) FROM dispatch_attempts), (SELECT count(*) FROM message_events),"
    " (SELECT count(*) FROM dead_letters), (SELECT count(*) FROM messages)"
)
_BLOCKED = "SELECT count(*) = 1 FROM pg_locks WHERE NOT granted"


async def test_a_late_outcome_of_an_erased_message_leaves_nothing(book: Book, database: Database) -> None:
    (message,) = await book.claimed(make_draft())
    await book.settle(settlement_for(message, "unknown", delay=LATER))
    async with database.hot() as connection:
        await delete_messages(connection, [message.id])
    for state in ("sent", "failed"):
        late = settlement_for(
            message, state, error_message="no such number: +15559876543", dead_reason="rejected"
        )
        assert await book.settle(late) == []
    assert await book.rows(_LEFT) == [(0, 0, 0, 0)]


async def test_an_outcome_that_is_being_recorded_goes_with_its_message(
    book: Book, database: Database
) -> None:
    (message,) = await book.claimed(make_draft())
    await book.rows("UPDATE messages SET state = 'unknown'")

    async def erase() -> None:
        async with database.hot() as connection:
            await delete_messages(connection, [message.id])

    async with database.hot() as connection, connection.transaction():
        await settle(
            connection,
            [settlement_for(message, "sent")],
            settled_outbox_ids=[],
            owner=1,
            event_outbox_id=new_id(),
            republish_after=LATER,
        )
        erasing = asyncio.create_task(erase())
        await eventually(lambda: book.value(_BLOCKED))
    await erasing
    assert await book.rows(_LEFT) == [(0, 0, 0, 0)]
