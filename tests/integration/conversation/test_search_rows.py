"""The rows of search follow the ledger, whatever happens to it meanwhile."""

import pytest
import sqlalchemy as sa

from services.conversation.indexer import SearchIndexer
from services.kit.ids import NO_ID
from services.ledger.database import Database
from services.ledger.erasing import drop_conversations
from services.ledger.tables import conversations, message_search, messages, search_progress

from .conftest import Find, Seed

pytestmark = pytest.mark.integration

_LATE = search_progress.c.name == "late"


async def test_a_tenant_linked_later_is_found(seed: Seed, find: Find, database: Database) -> None:
    thread = await seed.conversation()
    message = await seed.message(thread, body="Las reuniones")
    assert await find("acme") == []
    async with database.write() as connection:
        await connection.execute(sa.update(conversations).values(tenant_id="acme", language="es"))
    assert await find("acme") == [message]
    assert await find("reunion") == [message]


async def test_what_was_committed_late_is_found(seed: Seed, find: Find, database: Database) -> None:
    thread = await seed.conversation()
    early = await seed.message(thread, body="late one")
    later = await seed.message(thread, body="late two")
    assert await find("late") == [later, early]
    async with database.write() as connection:
        await connection.execute(sa.delete(message_search).where(message_search.c.message_id == early))
        await connection.execute(
            sa.text("UPDATE search_progress SET position = :zero WHERE name = 'late'"), {"zero": "0" * 32}
        )
    assert await find("late") == [later, early]


async def test_what_is_deleted_while_it_is_indexed_leaves_no_words(
    seed: Seed, find: Find, indexer: SearchIndexer, database: Database
) -> None:
    thread = await seed.conversation()
    kept, gone = [await seed.message(thread, body="some words") for _ in range(2)]
    assert await find("words") == [gone, kept]
    async with database.write() as connection:
        # As if the deletion had come between the reading of the message and the writing of its words.
        await connection.execute(sa.delete(messages).where(messages.c.id == gone))
        await connection.execute(sa.update(search_progress).values(position=NO_ID).where(_LATE))
    await indexer.run_once()
    assert await _words(database) == 1
    assert await find("words") == [kept]


async def test_a_deleted_conversation_leaves_no_words(
    seed: Seed, find: Find, indexer: SearchIndexer, database: Database
) -> None:
    thread, other = await seed.conversation(), await seed.conversation("+15559870001")
    gone, kept = await seed.message(thread, body="some words"), await seed.message(other, body="some words")
    assert await find("words") == [kept, gone]
    async with database.write() as connection:
        await connection.execute(sa.delete(messages).where(messages.c.id == gone))
    await database.start()
    async with database.hot() as hot:
        assert await drop_conversations(hot, [thread]) == 1
    await indexer.run_once()
    assert await _words(database) == 1
    assert await find("words") == [kept]


async def test_two_indexers_share_the_work(database: Database, seed: Seed, indexer: SearchIndexer) -> None:
    thread = await seed.conversation()
    await seed.message(thread)
    await indexer.run_once()
    async with database.write() as held:
        await held.execute(sa.text("SELECT * FROM search_progress FOR UPDATE"))
        await seed.message(thread)
        # Another one has the locks: nothing to do here, and nothing to wait for.
        assert await SearchIndexer(database, share=1.0, settle=-1.0, late=-1.0).run_once() == 0
    while await indexer.run_once():
        pass
    async with database.read() as connection:
        counted = [
            await connection.scalar(sa.select(sa.func.count()).select_from(t))
            for t in (messages, message_search)
        ]
    assert counted == [2, 2]


async def _words(database: Database) -> int:
    async with database.read() as connection:
        return (await connection.execute(sa.select(sa.func.count()).select_from(message_search))).scalar_one()
