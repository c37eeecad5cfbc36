"""Messages in rare states are found without walking over the others, and the others pay nothing for it."""

import re

import pytest

from services.ledger.database import Database
from services.ledger.reads import list_messages
from services.ledger.states import RARE

from .rows import Book, make_draft, settlement_for

pytestmark = pytest.mark.integration

_SIZE = "SELECT pg_relation_size('message_events_rare')"
_READ = (
    "SELECT sum(seq_tup_read + idx_tup_fetch)::int FROM pg_stat_xact_user_tables"
    " WHERE relname IN ('messages', 'message_events')"
)
_COUNT = 3000


async def _fill(book: Book) -> None:
    """Have many messages that were delivered, as plain rows."""
    await book.rows(
        "WITH new AS (INSERT INTO messages (id, conversation_id, channel, direction, state, sender,"
        " recipient, body, priority, create_time, update_time, message_time, state_sequence)"
        " SELECT gen_random_uuid(), gen_random_uuid(), 'sms', 'outbound', 'delivered', '+15551234567',"
        " '+15559876543', 'x', 'normal', now(), now(), now(), 3"
        " FROM generate_series(1, %s) RETURNING id)"
        " INSERT INTO message_events (message_id, sequence, type, create_time)"
        " SELECT id, 3, 'delivered', now() FROM new",
        _COUNT,
    )
    await book.rows("ANALYZE messages, message_events")


async def test_what_is_ordinary_is_not_in_the_index(book: Book) -> None:
    before = await book.value(_SIZE)
    (message,) = await book.claimed(make_draft())
    await book.settle(settlement_for(message, "sent"), closing=[message.outbox_id])
    await book.receive(message.id, "delivered")
    assert await book.story(message.id) == ["accepted", "sending", "sent", "delivered"]
    assert await book.value(_SIZE) == before


async def test_they_are_listed_newest_first_and_the_rest_is_not_read(book: Book, database: Database) -> None:
    failed: list[str] = []
    for state in ("failed", "unknown", "failed", "failed"):
        (message,) = await book.claimed(make_draft())
        await book.settle(settlement_for(message, state), closing=[message.outbox_id])
        failed += [message.id] if state == "failed" else []
    # It was unknown, and is not any more.
    (found,) = await book.claimed(make_draft())
    await book.settle(settlement_for(found, "unknown"), closing=[found.outbox_id])
    await book.receive(found.id, "delivered")
    await _fill(book)
    async with database.write() as connection:
        listed = [message.id for message in await list_messages(connection, state="failed", limit=10)]
        (first,) = await list_messages(connection, state="unknown", limit=10)
        rest = await list_messages(connection, state="failed", before=failed[2], channel="sms", limit=10)
        none = await list_messages(connection, state="failed", direction="inbound", limit=10)
        read = (await connection.exec_driver_sql(_READ)).scalar_one()
    assert listed == failed[::-1]
    assert [message.id for message in rest] == failed[1::-1]
    assert first.id not in (*failed, found.id)
    assert none == []
    assert read < _COUNT / 10


async def test_rare_states_are_those_of_the_index(book: Book) -> None:
    definition = await book.value("SELECT pg_get_indexdef('message_events_rare'::regclass)")
    assert set(re.findall(r"'(\w+)'", definition.split(" WHERE ")[1])) == RARE
