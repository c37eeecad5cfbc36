"""Deletes messages with all that hangs on them: for retention, and for the erasure of a person.

Every function is one transaction of bounded size. Repeating any of them does no harm, so that what was
interrupted is simply begun again.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import psycopg
from psycopg.rows import TupleRow

from services.kit.ids import first_id_at
from services.ledger.arrays import plain_array
from services.ledger.database import HotConnection
from services.ledger.outbox import EVENT_SUBJECT

BATCH_SIZE: Final = 500

# An outcome or a receipt may be being recorded: once the messages are locked it has been, and the statement
# that then begins sees all that it has left.
_LOCK_MESSAGES = "SELECT id FROM messages WHERE id = ANY(%s::uuid[]) ORDER BY id FOR UPDATE"

# What a dispatcher is about to send is left until it is settled. A webhook tells of a message after it was
# accepted; the minute is for clocks. One that tells of others as well goes all the same: it is raw.
_DELETE = """
WITH gone AS (
  DELETE FROM messages WHERE id = ANY(%(ids)s::uuid[]) AND state <> 'sending'
    AND (%(waiting)s OR state NOT IN ('pending', 'scheduled'))
  RETURNING id, conversation_id, direction, create_time
), events AS (
  DELETE FROM message_events e USING gone WHERE e.message_id = gone.id
), attempts AS (
  DELETE FROM dispatch_attempts a USING gone WHERE a.message_id = gone.id
), letters AS (
  DELETE FROM dead_letters d USING gone WHERE d.message_id = gone.id
), traces AS (
  DELETE FROM trace_contexts t USING gone WHERE t.message_id = gone.id
), words AS (
  DELETE FROM message_search s USING gone WHERE s.message_id = gone.id
), told AS (
  DELETE FROM webhook_logs w
  WHERE w.create_time >= (SELECT min(create_time) - interval '1 minute' FROM gone)
    AND w.message_ids && ARRAY(SELECT id FROM gone)
  RETURNING w.id
), counted AS (
  UPDATE conversations c SET message_count = greatest(0, c.message_count - g.messages),
    inbound_count = greatest(0, c.inbound_count - g.inbound),
    read_count = greatest(0, c.read_count - g.inbound)
  FROM (
    SELECT conversation_id, count(*) AS messages, count(*) FILTER (WHERE direction = 'inbound') AS inbound
    FROM gone GROUP BY conversation_id
  ) g WHERE c.id = g.conversation_id
)
SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM told)
"""

_CANCEL = """
WITH moved AS (
  UPDATE messages SET state = 'cancelled', event_count = event_count + 1, state_sequence = event_count + 1,
    update_time = now(), next_attempt_time = NULL
  WHERE id = ANY(%(ids)s::uuid[]) AND state IN ('pending', 'scheduled')
  RETURNING id, event_count
), logged AS (
  INSERT INTO message_events (message_id, sequence, type, create_time)
  SELECT id, event_count, 'cancelled', now() FROM moved
), news AS (
  INSERT INTO outbox (id, subject, message_ids, create_time, due_time)
  SELECT %(event_outbox_id)s::uuid, %(event_subject)s, array_agg(id), now(), now()
  FROM moved HAVING count(*) > 0
)
SELECT count(*) FROM moved
"""

# Intake may be adding to a conversation: it is locked first, and looked at by a statement that then begins.
# What indexes messages may have some of it in hand: told of the conversation, it looks once more.
_LOCK_CONVERSATIONS = "SELECT id FROM conversations WHERE id = ANY(%s::uuid[]) ORDER BY id FOR UPDATE"
_DROP_CONVERSATIONS = """
WITH gone AS (
  DELETE FROM conversations c WHERE c.id = ANY(%s::uuid[])
    AND NOT EXISTS (SELECT FROM messages m WHERE m.conversation_id = c.id)
  RETURNING c.id
), events AS (
  DELETE FROM conversation_events e USING gone WHERE e.conversation_id = gone.id
), stale AS (
  INSERT INTO search_stale (conversation_id) SELECT id FROM gone ON CONFLICT DO NOTHING
)
SELECT count(*) FROM gone
"""

_BOUND = "SELECT now() - make_interval(days => %s)"

# What waits for its time is not old, however long ago it was accepted. The id finds what is old by the clock
# of the process that took it in, which may be wrong.
_EXPIRED = """
SELECT id::text, conversation_id::text FROM messages
WHERE id < %(bound)s::uuid AND create_time < %(time)s AND state NOT IN ('pending', 'scheduled', 'sending')
ORDER BY id LIMIT %(limit)s
"""


class Deleted(NamedTuple):
    """Numbers of what a call has deleted."""

    messages: int
    webhooks: int


async def cancel_messages(connection: HotConnection, ids: Sequence[str], *, event_outbox_id: str) -> int:
    """Cancel those of the messages that wait, and return how many there were."""
    cursor = await connection.execute(
        _CANCEL,
        {"ids": plain_array(ids), "event_outbox_id": event_outbox_id, "event_subject": EVENT_SUBJECT},
    )
    return await _count(cursor)


async def delete_messages(connection: HotConnection, ids: Sequence[str], *, waiting: bool = True) -> Deleted:
    """Delete messages, their history and the webhooks that told of them; those under way stay.

    Without `waiting`, so do those that wait: a dead letter may have been replayed just now.
    """
    async with connection.transaction():
        await connection.execute(_LOCK_MESSAGES, (plain_array(ids),))
        cursor = await connection.execute(_DELETE, {"ids": plain_array(ids), "waiting": waiting})
        row = await cursor.fetchone()
    return Deleted(*row) if row else Deleted(0, 0)


async def drop_conversations(connection: HotConnection, ids: Sequence[str]) -> int:
    """Delete those of the conversations that have no messages, and return how many there were."""
    async with connection.transaction():
        await connection.execute(_LOCK_CONVERSATIONS, (plain_array(ids),))
        return await _count(await connection.execute(_DROP_CONVERSATIONS, (plain_array(ids),)))


async def delete_old_messages(connection: HotConnection, *, days: int) -> int:
    """Delete the messages of more than `days` ago that nothing will happen to; return their number."""
    row = await (await connection.execute(_BOUND, (days,))).fetchone()
    assert row is not None  # noqa: S101 - a constant always has a row
    total = 0
    while True:
        cursor = await connection.execute(
            _EXPIRED, {"bound": first_id_at(row[0]), "time": row[0], "limit": BATCH_SIZE}
        )
        rows = await cursor.fetchall()
        if not rows:
            return total
        deleted = await delete_messages(connection, [row[0] for row in rows], waiting=False)
        await drop_conversations(connection, sorted({row[1] for row in rows}))
        total += deleted.messages
        if not deleted.messages:
            return total


async def _count(cursor: psycopg.AsyncCursor[TupleRow]) -> int:
    row = await cursor.fetchone()
    return int(row[0]) if row else 0
