"""The outbox: what is committed and must still happen outside PostgreSQL.

Rows of dispatch carry message ids and live until a dispatcher has settled them. Rows of events live
until the broker has stored the events; they hold no payload, since `message_events` has it: the events
of those messages that were committed at the row's create_time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from services.ledger.arrays import plain_array
from services.ledger.database import HotConnection

EVENT_SUBJECT: Final = "posthouse.event.message"
DEAD_LETTER_SUBJECT: Final = "posthouse.deadletter"

# First key of the advisory lock every living dispatcher holds; the second is its owner key.
OWNER_LOCK: Final = 0x706F7374

# A row of a dispatcher whose lock is gone is due at once: the process has died, or lost its database. Each
# branch has an index that ends where it does, so that what is scheduled for later is not walked over.
_SWEEP = """
WITH living AS (
  SELECT objid::bigint::int AS owner FROM pg_locks
  WHERE locktype = 'advisory' AND classid = %(owner_lock)s AND objsubid = 2 AND granted
), due AS (
  SELECT id FROM outbox WHERE due_time <= now()
  ORDER BY due_time LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), orphaned AS (
  SELECT id FROM outbox WHERE owner > 0 AND owner NOT IN (SELECT owner FROM living)
  LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
UPDATE outbox o SET publish_count = o.publish_count + 1,
  owner = CASE WHEN o.owner IS NULL THEN NULL ELSE 0 END,
  due_time = now() + make_interval(secs => %(republish_after)s * least(o.publish_count + 1, 12))
WHERE o.id = ANY(ARRAY(SELECT id FROM due UNION ALL SELECT id FROM orphaned))
RETURNING o.id::text, o.subject, o.message_ids::text[], o.create_time, o.publish_count
"""


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A row the sweeper publishes."""

    id: str
    subject: str
    message_ids: list[str]
    create_time: datetime
    publish_count: int


async def sweep(connection: HotConnection, *, republish_after: float, limit: int = 200) -> list[OutboxRow]:
    """Take rows that are due, push their due time on, and return them for publishing.

    At most `limit` whose time has come, and as many that a dead dispatcher has left behind. Any number of
    processes may sweep: a row goes to one of them.
    """
    cursor = await connection.execute(
        _SWEEP, {"owner_lock": OWNER_LOCK, "limit": limit, "republish_after": republish_after}
    )
    return [OutboxRow(*row) for row in await cursor.fetchall()]


async def delete(connection: HotConnection, ids: Sequence[str]) -> None:
    """Delete rows that are done."""
    await connection.execute("DELETE FROM outbox WHERE id = ANY(%s::uuid[])", (plain_array(ids),))
