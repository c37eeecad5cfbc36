"""Earlier messages of the same conversations that have not left yet, whichever dispatcher has them."""

from collections.abc import Collection, Sequence

from services.ledger.arrays import plain_array, text_array
from services.ledger.claims import ClaimedMessage
from services.ledger.database import HotConnection

# What is waiting for a retry, or until a time of its own, holds nobody up; nor does what other lanes have
# not come to. Those before the nearest three have left, or they would have held up these.
_FIND = """
SELECT w.conversation_id::text, e.id::text
FROM unnest(
  %(id)s::uuid[], %(conversation_id)s::uuid[], %(create_time)s::timestamptz[], %(priority)s::text[]
) AS w(id, conversation_id, create_time, priority)
CROSS JOIN LATERAL (
  SELECT m.id, m.direction, m.state, m.priority, m.next_attempt_time FROM messages m
  WHERE m.conversation_id = w.conversation_id AND (m.message_time, m.id) < (w.create_time, w.id)
  ORDER BY m.message_time DESC, m.id DESC LIMIT 3
) e
WHERE e.direction = 'outbound' AND (
  e.state = 'sending' OR e.state = 'pending' AND e.next_attempt_time IS NULL AND e.priority = w.priority
)
"""

_REMAINING = """
SELECT id::text FROM messages WHERE id = ANY(%(ids)s::uuid[])
  AND (state = 'sending' OR state = 'pending' AND next_attempt_time IS NULL AND %(unclaimed)s)
"""


async def find_predecessors(
    connection: HotConnection, messages: Sequence[ClaimedMessage]
) -> dict[str, set[str]]:
    """Return the messages that are to leave before these, by conversation; of each give the first alone."""
    cursor = await connection.execute(
        _FIND,
        {
            "id": plain_array([message.id for message in messages]),
            "conversation_id": plain_array([message.conversation_id for message in messages]),
            "create_time": text_array([message.create_time.isoformat() for message in messages]),
            "priority": plain_array([message.priority for message in messages]),
        },
    )
    found: dict[str, set[str]] = {}
    for conversation_id, message_id in await cursor.fetchall():
        found.setdefault(conversation_id, set()).add(message_id)
    return found


async def still_there(
    connection: HotConnection, message_ids: Collection[str], *, unclaimed: bool
) -> set[str]:
    """Return those of messages that are under way or, with `unclaimed`, that nobody has claimed yet."""
    cursor = await connection.execute(_REMAINING, {"ids": plain_array(message_ids), "unclaimed": unclaimed})
    return {row[0] for row in await cursor.fetchall()}
