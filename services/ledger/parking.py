"""Receipts that name a message by the provider's id alone: looked up, parked, and placed later."""

from collections.abc import Sequence
from typing import NamedTuple

from services.ledger.arrays import text_array
from services.ledger.database import HotConnection
from services.ledger.receipts import ReceiptRow, receipt_columns

_FIND = """
SELECT DISTINCT ON (provider_message_id) provider_message_id, message_id::text, number
FROM dispatch_attempts
WHERE provider_message_id = ANY(%s::text[]) AND provider = %s
ORDER BY provider_message_id, number DESC
"""

_PARK = """
INSERT INTO parked_receipts (
  provider, event_key, provider_message_id, state, provider_time, error_code, detail, webhook_log_id,
  create_time, check_time
)
SELECT provider, event_key, provider_message_id, state, provider_time, error_code, detail, webhook_log_id,
  now(), now() + interval '1 second'
FROM unnest(
  %(provider)s::text[], %(event_key)s::text[], %(provider_message_id)s::text[], %(state)s::text[],
  %(provider_time)s::timestamptz[], %(error_code)s::text[], %(detail)s::text[], %(webhook_log_id)s::uuid[]
) AS t(
  provider, event_key, provider_message_id, state, provider_time, error_code, detail, webhook_log_id
)
ORDER BY provider, event_key
ON CONFLICT (provider, event_key) DO NOTHING
RETURNING event_key
"""

# Looked for often while it is young, every five minutes once it is old: most of what stays was never ours.
_DUE = """
WITH due AS (
  SELECT provider, event_key FROM parked_receipts WHERE check_time <= now()
  ORDER BY check_time LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), pushed AS (
  UPDATE parked_receipts p SET check_time = now()
    + least(greatest((now() - p.create_time) / 4, interval '1 second'), interval '5 minutes')
  FROM due d WHERE p.provider = d.provider AND p.event_key = d.event_key
  RETURNING p.provider, p.event_key, p.provider_message_id, p.state, p.provider_time, p.error_code, p.detail,
    p.webhook_log_id, p.create_time
), found AS (
  SELECT p.*, a.message_id, a.number FROM pushed p CROSS JOIN LATERAL (
    SELECT message_id, number FROM dispatch_attempts
    WHERE provider_message_id = p.provider_message_id AND provider = p.provider
    ORDER BY number DESC LIMIT 1
  ) a
)
SELECT (SELECT count(*) FROM pushed), provider, event_key, provider_message_id, state, provider_time,
  error_code, concat_ws(' ', detail, 'received ' || to_char(create_time, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')),
  webhook_log_id::text, message_id::text, number
FROM (SELECT) AS one LEFT JOIN found ON true
"""

_REMOVE = """
DELETE FROM parked_receipts p USING unnest(%s::text[], %s::text[]) AS t(provider, event_key)
WHERE p.provider = t.provider AND p.event_key = t.event_key
"""


class Attempted(NamedTuple):
    """The attempt a provider gave an id to."""

    message_id: str
    attempt: int


async def find_attempts(
    connection: HotConnection, provider: str, provider_message_ids: Sequence[str]
) -> dict[str, Attempted]:
    """Return the attempts that have these ids of the provider; those nobody knows are left out."""
    cursor = await connection.execute(_FIND, (text_array(provider_message_ids), provider))
    return {found[0]: Attempted(found[1], found[2]) for found in await cursor.fetchall()}


async def park(connection: HotConnection, receipts: Sequence[ReceiptRow]) -> int:
    """Keep receipts until their message is known, and return how many were not kept already.

    Each has a provider_message_id, and no two the same key.
    """
    cursor = await connection.execute(_PARK, receipt_columns(receipts))
    return len(await cursor.fetchall())


async def take_placeable(connection: HotConnection, *, limit: int) -> tuple[int, list[ReceiptRow]]:
    """Look for the messages of up to `limit` parked receipts that are due.

    Returns how many were looked at, and those whose message is known now, with its id. These stay parked
    until `unpark`: applying them twice changes nothing, forgetting them would.
    """
    cursor = await connection.execute(_DUE, {"limit": limit})
    rows = await cursor.fetchall()
    return rows[0][0], [
        ReceiptRow(
            provider=row[1],
            event_key=row[2],
            message_id=row[9],
            state=row[4],
            attempt=row[10],
            provider_message_id=row[3],
            provider_time=row[5],
            error_code=row[6],
            detail=row[7],
            webhook_log_id=row[8],
        )
        for row in rows
        if row[9] is not None
    ]


async def unpark(connection: HotConnection, receipts: Sequence[ReceiptRow]) -> None:
    """Forget parked receipts that have been applied."""
    await connection.execute(
        _REMOVE, (text_array([r.provider for r in receipts]), text_array([r.event_key for r in receipts]))
    )
