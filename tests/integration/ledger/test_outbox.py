"""The sweeper: what is due goes to one of them, and a dead dispatcher's work is taken over at once."""

import asyncio

import pytest

from services.ledger import outbox
from services.ledger.database import Database

from .rows import LATER, Book, eventually, make_draft

pytestmark = pytest.mark.integration


async def _sweep(database: Database, limit: int = 200) -> list[outbox.OutboxRow]:
    async with database.hot() as connection:
        return await outbox.sweep(connection, republish_after=LATER, limit=limit)


async def test_only_what_is_due_is_swept_and_then_waits_again(book: Book, database: Database) -> None:
    due, waiting = await book.accept(make_draft()), await book.accept(make_draft())
    await book.rows(
        "UPDATE outbox SET due_time = now() WHERE id = ANY(%s)",
        [due.envelopes[0].outbox_id, due.event_outbox_id],
    )
    swept = {row.id: row for row in await _sweep(database)}
    assert set(swept) == {due.envelopes[0].outbox_id, due.event_outbox_id}
    row = swept[due.envelopes[0].outbox_id]
    assert (row.subject, row.message_ids, row.create_time, row.publish_count) == (
        "posthouse.dispatch.sms",
        due.envelopes[0].message_ids,
        due.create_time,
        1,
    )
    assert await _sweep(database) == []
    await book.rows("UPDATE outbox SET due_time = now() WHERE id = %s", row.id)
    (again,) = await _sweep(database)
    assert (again.id, again.publish_count) == (row.id, 2)
    wait = "SELECT extract(epoch FROM due_time - now())::float8 FROM outbox WHERE id = %s"
    # Each time it waits longer.
    assert await book.value(wait, row.id) == pytest.approx(2 * LATER, abs=30)
    assert await book.value(wait, waiting.event_outbox_id) == pytest.approx(LATER, abs=30)


async def test_the_oldest_go_first(book: Book, database: Database) -> None:
    for _ in range(3):
        await book.accept(make_draft())
    await book.rows(
        "UPDATE outbox o SET due_time = now() - n * interval '1 minute'"
        " FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM outbox) numbered"
        " WHERE numbered.id = o.id"
    )
    ordered = [row[0] for row in await book.rows("SELECT id::text FROM outbox ORDER BY due_time")]
    assert {row.id for row in await _sweep(database, limit=2)} == set(ordered[:2])


async def test_two_sweepers_share_what_is_due(book: Book, database: Database) -> None:
    for _ in range(10):
        await book.accept(make_draft())
    await book.rows("UPDATE outbox SET due_time = now()")
    async with database.hot() as first, database.hot() as second, first.transaction():
        some = await outbox.sweep(first, republish_after=LATER, limit=5)
        async with asyncio.timeout(50):
            rest = await outbox.sweep(second, republish_after=LATER)
    ids = [row.id for row in [*some, *rest]]
    assert len(some) == 5
    assert len(ids) == len(set(ids)) == 20
    concurrent = await asyncio.gather(*(_sweep(database) for _ in range(4)))
    assert [row for rows in concurrent for row in rows] == []


async def test_rows_of_the_dead_are_due_at_once_and_those_of_the_living_are_not(
    book: Book, database: Database
) -> None:
    alive, dead = 101, 102
    locks = [await database.connect() for _ in range(2)]
    for connection, key in zip(locks, (alive, dead), strict=True):
        await connection.execute("SELECT pg_advisory_lock(%s, %s)", (outbox.OWNER_LOCK, key))
    (kept,) = await book.claimed(make_draft(), owner=alive)
    (orphan,) = await book.claimed(make_draft(), owner=dead)
    assert await _sweep(database) == []
    await locks[1].close()

    async def lock_is_gone() -> bool:
        return bool(await book.value("SELECT count(*) = 0 FROM pg_locks WHERE objid = %s", dead))

    await eventually(lock_is_gone)
    (row,) = await _sweep(database)
    assert row.id == orphan.outbox_id
    # 0: it had an owner, who has died. Its next one must look after what was under way.
    assert await book.value("SELECT owner FROM outbox WHERE id = %s", orphan.outbox_id) == 0
    assert await book.value("SELECT owner FROM outbox WHERE id = %s", kept.outbox_id) == alive
    await locks[0].close()


async def test_a_lease_that_has_run_out_is_swept_even_of_the_living(book: Book, database: Database) -> None:
    connection = await database.connect()
    await connection.execute("SELECT pg_advisory_lock(%s, %s)", (outbox.OWNER_LOCK, 103))
    (message,) = await book.claimed(make_draft(), owner=103)
    await book.rows("UPDATE outbox SET due_time = now() WHERE id = %s", message.outbox_id)
    assert [row.id for row in await _sweep(database)] == [message.outbox_id]
    await connection.close()


async def test_deleting_takes_only_what_is_named(book: Book, database: Database) -> None:
    first, second = await book.accept(make_draft()), await book.accept(make_draft())
    async with database.hot() as connection:
        await outbox.delete(connection, [first.event_outbox_id, first.envelopes[0].outbox_id])
        await outbox.delete(connection, [])
    left = await book.rows("SELECT id::text FROM outbox")
    assert {row[0] for row in left} == {second.event_outbox_id, second.envelopes[0].outbox_id}


async def test_what_is_scheduled_is_not_walked_over(book: Book, database: Database) -> None:
    scheduled = 5000
    async with database.hot() as connection:
        for _ in range(10):
            # The plan is settled while the table is empty, and kept.
            assert await outbox.sweep(connection, republish_after=LATER) == []
        await connection.execute(
            "INSERT INTO outbox (id, subject, message_ids, create_time, due_time)"
            " SELECT gen_random_uuid(), 'posthouse.dispatch.sms', ARRAY[gen_random_uuid()], now(),"
            " now() + interval '1 hour' FROM generate_series(1, %s)",
            (scheduled,),
        )
    (orphan,) = await book.claimed(make_draft(), owner=104)
    due = await book.accept(make_draft())
    await book.rows("UPDATE outbox SET due_time = now() WHERE id = %s", due.event_outbox_id)
    async with database.hot() as connection, connection.transaction():
        swept = await outbox.sweep(connection, republish_after=LATER)
        cursor = await connection.execute(
            "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'outbox'"
        )
        row = await cursor.fetchone()
    assert {one.id for one in swept} == {orphan.outbox_id, due.event_outbox_id}
    assert row is not None
    assert row[0] < scheduled / 100
