"""Brings what is stored to the key that seals now, in batches, beside a running system.

A row says by itself whether it is done, so that what was interrupted is simply begun again. Content never
changes, and the columns written here are written by nobody else; what somebody is working on is skipped.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from services.kit.keyring import ContentError, Keyring
from services.ledger.arrays import bytes_array, plain_array, text_array
from services.ledger.database import HotConnection
from services.ledger.sealing import MESSAGES, WEBHOOK_LOGS, SealedTable

BATCH_SIZE: Final = 500
# Stored bytes of a batch beyond which it ends with the row that it has come to.
_MOST_BYTES: Final = 8 * 1024 * 1024

# Identifiers are those of SealedTable.
_KEYS_IN_USE = """
SELECT sealed_by, count(*) FROM {table} GROUP BY sealed_by
"""
# A keyed digest is the id of the key, a colon, and 32 bytes: see kit/keyring.
_DIGEST_KEYS_IN_USE = """
SELECT CASE WHEN size > 33 AND get_byte(request_hash, size - 33) = 58
  THEN encode(substr(request_hash, 1, size - 33), 'escape') END, count(*)
FROM (SELECT request_hash, octet_length(request_hash) AS size FROM idempotency_keys) k GROUP BY 1
"""
_READ = """
SELECT id::text, sealed_by, {columns} FROM (
  SELECT *, sum({size}) OVER (ORDER BY id) - ({size}) AS before FROM (
    SELECT * FROM {table} WHERE id > %(after)s::uuid AND sealed_by IS DISTINCT FROM %(key_id)s
    ORDER BY id LIMIT %(limit)s
  ) batch
) sized WHERE before < %(most)s ORDER BY id
"""
# A process that holds a row of the hot path is not waited for: it may be waiting for another of ours.
_WRITE = """
WITH free AS (
  SELECT id FROM {table} WHERE id = ANY(%(id)s::uuid[]) FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE {table} r SET {assignments}, sealed_by = %(key_id)s
FROM unnest(%(id)s::uuid[], %(sealed_by)s::text[], {arrays}) AS t(id, sealed_by, {columns})
WHERE r.id = t.id AND r.id IN (SELECT id FROM free) AND r.sealed_by IS NOT DISTINCT FROM t.sealed_by
RETURNING r.id::text
"""

# Search has the words of what is not sealed, and they go with the same transaction. No pass of the indexer
# may be under way that has read them before: those over all messages hold a row of search_progress, and
# those over one conversation its row of search_stale.
_HOLD_INDEXER = "LOCK TABLE search_progress IN EXCLUSIVE MODE"
_INDEX_AGAIN = """
INSERT INTO search_stale (conversation_id)
SELECT DISTINCT conversation_id FROM messages WHERE id = ANY(%s::uuid[]) ORDER BY conversation_id
ON CONFLICT DO NOTHING
"""
_FORGET_WORDS = "DELETE FROM message_search WHERE message_id = ANY(%s::uuid[])"


class KeyUse(NamedTuple):
    """How many rows of a table are sealed with a key; None: with none."""

    table: str
    key_id: str | None
    rows: int


@dataclass(slots=True)
class Progress:
    """What a batch came to. `skipped` are rows that somebody else was working on.

    `unreadable` says of each row that cannot be opened why; the next batch begins after `last_id`, None at
    the end.
    """

    last_id: str | None
    done: int = 0
    skipped: int = 0
    unreadable: list[str] = field(default_factory=list)


async def keys_in_use(connection: HotConnection) -> list[KeyUse]:
    """Return which keys the ledger needs, and for how many rows; it reads all of three tables."""
    statements = {table.name: _KEYS_IN_USE.format(table=table.name) for table in (MESSAGES, WEBHOOK_LOGS)} | {
        "idempotency_keys": _DIGEST_KEYS_IN_USE
    }
    found: list[KeyUse] = []
    for table, statement in statements.items():
        cursor = await connection.execute(statement.encode())
        rows = sorted(await cursor.fetchall(), key=lambda row: row[0] or "")
        found += [KeyUse(table, key_id, count) for key_id, count in rows]
    return found


async def reseal(
    connection: HotConnection, table: SealedTable, *, after: str, limit: int = BATCH_SIZE
) -> Progress:
    """Bring the next rows after an id to the sealing key of the connection, or to none where it has none."""
    keyring = connection.keyring
    columns = (*table.texts, *table.jsons, *table.blobs)
    cursor = await connection.execute(
        _READ.format(
            table=table.name,
            columns=", ".join(_readable(table)),
            size=" + ".join(f"coalesce(pg_column_size({column}), 0)" for column in columns),
        ).encode(),
        {"after": after, "key_id": keyring.sealing_id, "limit": limit, "most": _MOST_BYTES},
    )
    rows = await cursor.fetchall()
    progress = Progress(rows[-1][0] if rows else None)
    ids: list[str] = []
    old: list[str | None] = []
    values: list[list[str | bytes | None]] = [[] for _ in columns]
    for row_id, sealed_by, *stored in rows:
        try:
            opened = [
                _opened(keyring, table, column, row_id, sealed_by, value)
                for column, value in zip(columns, stored, strict=True)
            ]
        except ContentError as error:
            progress.unreadable.append(str(error))
            continue
        ids.append(row_id)
        old.append(sealed_by)
        for column, array, value in zip(columns, values, opened, strict=True):
            array.append(_closed(keyring, table, column, row_id, value))
    if ids:
        parameters = {
            "id": plain_array(ids),
            "sealed_by": text_array(old),
            "key_id": keyring.sealing_id,
            **{column: _literal(array) for column, array in zip(columns, values, strict=True)},
        }
        searchable = table is MESSAGES and (keyring.sealing_id is None or None in old)
        progress.done = await _write(connection, table, parameters, searchable=searchable)
        progress.skipped = len(ids) - progress.done
    return progress


async def _write(
    connection: HotConnection, table: SealedTable, parameters: dict[str, str | None], *, searchable: bool
) -> int:
    columns = (*table.texts, *table.jsons, *table.blobs)
    kinds = [*["text"] * len(table.texts), *["jsonb"] * len(table.jsons), *["bytea"] * len(table.blobs)]
    statement = _WRITE.format(
        table=table.name,
        columns=", ".join(columns),
        assignments=", ".join(f"{column} = t.{column}" for column in columns),
        arrays=", ".join(f"%({column})s::{kind}[]" for column, kind in zip(columns, kinds, strict=True)),
    )
    async with connection.transaction():
        if searchable:
            await connection.execute(_HOLD_INDEXER)
            await connection.execute(_INDEX_AGAIN, (parameters["id"],))
        cursor = await connection.execute(statement.encode(), parameters)
        done = [row[0] for row in await cursor.fetchall()]
        if searchable:
            await connection.execute(_FORGET_WORDS, (plain_array(done),))
    return len(done)


def _readable(table: SealedTable) -> list[str]:
    """Return the columns as SealedTable takes them: of JSON its text, or the string it holds when sealed."""
    jsons = [
        f"CASE WHEN sealed_by IS NULL THEN {column}::text ELSE {column} #>> '{{}}' END"
        for column in table.jsons
    ]
    return [*table.texts, *jsons, *table.blobs]


def _opened(
    keyring: Keyring,
    table: SealedTable,
    column: str,
    row_id: str,
    sealed_by: str | None,
    value: str | bytes | None,
) -> str | bytes | None:
    if sealed_by is None or value is None:
        return value
    if isinstance(value, bytes):
        return table.open_blob(keyring, column, row_id, sealed_by, value)
    return table.open(keyring, column, row_id, sealed_by, value)


def _closed(
    keyring: Keyring, table: SealedTable, column: str, row_id: str, value: str | bytes | None
) -> str | bytes | None:
    if keyring.sealing_id is None or value is None:
        return value
    if isinstance(value, bytes):
        return table.seal_blob(keyring, column, row_id, value)
    return table.seal(keyring, column, row_id, value)


def _literal(values: Sequence[str | bytes | None]) -> str:
    if any(isinstance(value, bytes) for value in values):
        return bytes_array([value for value in values if not isinstance(value, str)])
    return text_array([value for value in values if not isinstance(value, bytes)])
