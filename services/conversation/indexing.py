"""Fills `message_search` from the ledger, in small transactions that any process may continue."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.conversation.search_text import (
    CONFIGURATIONS,
    MAX_CHARACTERS,
    Searchable,
    all_words,
    vector_literal,
)
from services.conversation.words import stem_input
from services.kit.ids import NO_ID, first_id_at
from services.ledger.arrays import plain_array, text_array
from services.ledger.database import Database
from services.ledger.tables import conversations, message_search, messages, search_progress, search_stale

BATCH_SIZE: Final = 500

# Ids are made before their transaction commits, so that an id may appear below one that was there first.
# The newest pass stays a moment behind the clock, and the late pass looks at everything once more when
# nothing can be under way any longer.
SETTLE_SECONDS: Final = 1.0
LATE_SECONDS: Final = 90.0


_PLAIN: Final = messages.c.sealed_by.is_(None)
_COLUMNS: tuple[sa.ColumnElement[Any], ...] = (
    messages.c.id,
    messages.c.conversation_id,
    messages.c.sender,
    messages.c.recipient,
    messages.c.sealed_by,
    # Of what is sealed only addresses and tenant can be found: the words of the rest would give it away.
    sa.case((_PLAIN, messages.c.subject)).label("subject"),
    sa.case((_PLAIN, sa.func.left(messages.c.body, MAX_CHARACTERS)), else_="").label("body"),
    sa.case((_PLAIN, sa.func.left(messages.c.html, MAX_CHARACTERS))).label("html"),
)

_IN_ORDER = sa.text("SET LOCAL enable_bitmapscan = off")

_STEMMED = " ".join(
    f"WHEN '{language}' THEN to_tsvector('{configuration}', words)"
    for language, configuration in CONFIGURATIONS.items()
)
# Only constants of this module go into the text.
_STORE = sa.text(
    f"""
INSERT INTO message_search AS s (message_id, conversation_id, vector)
SELECT id, conversation_id, vector::tsvector || CASE language {_STEMMED} ELSE '' END
FROM unnest(
  CAST(:id AS uuid[]), CAST(:conversation_id AS uuid[]), CAST(:vector AS text[]), CAST(:words AS text[]),
  CAST(:language AS text[])
) AS t(id, conversation_id, vector, words, language)
ON CONFLICT (message_id) DO UPDATE SET vector = excluded.vector WHERE s.vector <> excluded.vector
"""  # noqa: S608
)


async def index_newest(database: Database, *, settle: float = SETTLE_SECONDS, limit: int = BATCH_SIZE) -> int:
    """Index the messages after those indexed last; return their number, 0 when there are none for now."""
    bound = first_id_at(_ago(settle))
    async with database.write() as connection:
        position = await _take(connection, "newest")
        if position is None:
            return 0
        rows = await _read(connection, messages.c.id > position, messages.c.id < bound, limit=limit)
        await _store(connection, rows)
        return await _move(connection, "newest", rows)


async def index_late(database: Database, *, late: float = LATE_SECONDS, limit: int = BATCH_SIZE) -> int:
    """Index what was committed after the newest pass had gone by; return the number of what was looked at.

    What was deleted while a pass had it in hand is left out again.
    """
    async with database.write() as connection:
        position = await _take(connection, "late")
        if position is None:
            return 0
        newest = sa.select(search_progress.c.position).where(search_progress.c.name == "newest")
        reached = (await connection.execute(newest)).scalar_one_or_none() or NO_ID
        bound = min(reached, first_id_at(_ago(late)))
        seen = sa.select(messages.c.id).where(messages.c.id > position, messages.c.id <= bound)
        ids = (await connection.execute(seen.order_by(messages.c.id).limit(limit * 20))).all()
        end = ids[-1].id if len(ids) == limit * 20 else bound
        if position < end:
            # Said of both tables: neither is read beyond the stretch.
            stretch = [table.between(position, end) for table in (message_search.c.message_id, messages.c.id)]
            await _drop_orphans(connection, *stretch)
        if not ids:
            return 0
        indexed = sa.exists().where(message_search.c.message_id == messages.c.id)
        missing = (messages.c.id > position, messages.c.id <= ids[-1].id, ~indexed)
        await _store(connection, await _read(connection, *missing, limit=None))
        return await _move(connection, "late", ids)


async def index_stale(database: Database) -> int:
    """Index a conversation again whose tenant or language has changed; return 1, or 0 when there is none.

    Of a conversation that was deleted, the words that a pass has noted meanwhile go.
    """
    async with database.write() as connection:
        # Deleted first: a change that comes meanwhile waits for us, and is noted anew.
        found = sa.select(search_stale.c.conversation_id).limit(1).with_for_update(skip_locked=True)
        statement = sa.delete(search_stale).where(search_stale.c.conversation_id.in_(found))
        row = (await connection.execute(statement.returning(search_stale.c.conversation_id))).one_or_none()
        if row is None:
            return 0
        position = NO_ID
        while True:
            narrowed = (messages.c.conversation_id == row.conversation_id, messages.c.id > position)
            rows = await _read(connection, *narrowed, limit=BATCH_SIZE)
            if not rows:
                await _drop_orphans(connection, message_search.c.conversation_id == row.conversation_id)
                return 1
            await _store(connection, rows)
            position = rows[-1].id


async def start_rebuild(database: Database) -> None:
    """Begin to index everything again, from the first message on."""
    async with database.write() as connection:
        await connection.execute(sa.delete(search_progress).where(search_progress.c.name == "rebuild"))


async def rebuild_batch(database: Database, *, limit: int = BATCH_SIZE) -> int:
    """Index the next messages of a rebuild; return their number, 0 at its end."""
    async with database.write() as connection:
        position = await _take(connection, "rebuild", wait=True)
        rows = await _read(connection, messages.c.id > (position or NO_ID), limit=limit)
        await _store(connection, rows)
        return await _move(connection, "rebuild", rows)


async def remove_orphans(database: Database) -> int:
    """Delete the rows of messages that are no more; return their number."""
    async with database.write() as connection:
        return await _drop_orphans(connection, sa.true())


async def newest_ids(connection: AsyncConnection) -> tuple[str | None, str | None]:
    """Return the id of the newest message, and the one that the newest pass has come to."""
    newest = sa.select(messages.c.id).order_by(messages.c.id.desc()).limit(1)
    reached = sa.select(search_progress.c.position).where(search_progress.c.name == "newest")
    both = sa.select(newest.scalar_subquery().label("newest"), reached.scalar_subquery().label("reached"))
    row = (await connection.execute(both)).one()
    return row.newest, row.reached


async def _take(connection: AsyncConnection, name: str, *, wait: bool = False) -> str | None:
    """Lock a pass and return where it has come to, or None while another process works on it."""
    statement = (
        sa.select(search_progress.c.position)
        .where(search_progress.c.name == name)
        .with_for_update(skip_locked=not wait)
    )
    position: str | None = (await connection.execute(statement)).scalar_one_or_none()
    if position is None:
        await connection.execute(
            sa.text(
                "INSERT INTO search_progress (name, position) VALUES (:name, CAST(:zero AS uuid))"
                " ON CONFLICT DO NOTHING"
            ),
            {"name": name, "zero": NO_ID},
        )
        position = (await connection.execute(statement)).scalar_one_or_none()
    return position


async def _move(connection: AsyncConnection, name: str, rows: Sequence[Any]) -> int:
    if rows:
        await connection.execute(
            sa.update(search_progress).where(search_progress.c.name == name).values(position=rows[-1].id)
        )
    return len(rows)


async def _read(
    connection: AsyncConnection, *conditions: sa.ColumnElement[bool], limit: int | None
) -> Sequence[sa.Row[Any]]:
    # In the order of the index, and the limit before the join: statistics know nothing of rows this new, and
    # a plan for a handful of them would fetch, join and sort all that waits for each batch.
    await connection.execute(_IN_ORDER)
    found = sa.select(*_COLUMNS).where(*conditions).order_by(messages.c.id).limit(limit).subquery()
    statement = (
        sa.select(
            found,
            conversations.c.tenant_id,
            sa.case((found.c.sealed_by.is_(None), conversations.c.language)).label("language"),
        )
        .outerjoin_from(found, conversations, conversations.c.id == found.c.conversation_id)
        .order_by(found.c.id)
    )
    return (await connection.execute(statement)).all()


async def _drop_orphans(
    connection: AsyncConnection, words: sa.ColumnElement[bool], *near: sa.ColumnElement[bool]
) -> int:
    exists = sa.exists().where(messages.c.id == message_search.c.message_id, *near)
    return (await connection.execute(sa.delete(message_search).where(words, ~exists))).rowcount


async def _store(connection: AsyncConnection, rows: Sequence[sa.Row[Any]]) -> None:
    if not rows:
        return
    # In a thread: long e-mails must not hold up the calls of this process.
    await connection.execute(_STORE, await asyncio.to_thread(_parameters, rows))


def _parameters(rows: Sequence[sa.Row[Any]]) -> dict[str, str]:
    words = [
        all_words(Searchable(row.sender, row.recipient, row.tenant_id, row.subject, row.body, row.html))
        for row in rows
    ]
    stemmed = [
        " ".join(stem_input(row.language, word) for word in found) if row.language in CONFIGURATIONS else None
        for row, found in zip(rows, words, strict=True)
    ]
    return {
        "id": plain_array([row.id for row in rows]),
        "conversation_id": plain_array([row.conversation_id for row in rows]),
        "vector": text_array([vector_literal(found) for found in words]),
        "words": text_array(stemmed),
        "language": text_array([row.language for row in rows]),
    }


def _ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)
