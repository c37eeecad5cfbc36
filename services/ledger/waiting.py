"""What waits in envelopes that nobody has claimed yet."""

from collections.abc import Sequence
from typing import NamedTuple

from services.ledger.arrays import plain_array
from services.ledger.database import HotConnection

# An earlier message that is in another envelope has not been tried, and would go the same way: what has been
# tried, or was for a time of its own, holds nobody up. Of the three before, as in ledger/predecessors.
_WAITING = """
WITH waiting AS MATERIALIZED (
  SELECT m.id, m.sender, m.conversation_id, m.channel, m.priority, m.message_time, m.next_attempt_time
  FROM outbox o, unnest(o.message_ids) AS w(message_id), messages m
  WHERE o.id = ANY(%s::uuid[]) AND (o.owner IS NULL OR o.owner = 0) AND m.id = w.message_id
    AND m.state IN ('pending', 'scheduled') AND (m.expire_time IS NULL OR m.expire_time > now())
)
SELECT w.id::text, w.sender, w.conversation_id::text, w.next_attempt_time IS NULL AND EXISTS (
  SELECT FROM (
    SELECT m.id, m.direction, m.state, m.channel, m.priority, m.next_attempt_time FROM messages m
    WHERE m.conversation_id = w.conversation_id AND (m.message_time, m.id) < (w.message_time, w.id)
    ORDER BY m.message_time DESC, m.id DESC LIMIT 3
  ) e
  WHERE e.direction = 'outbound' AND e.state = 'pending' AND e.next_attempt_time IS NULL
    AND e.channel = w.channel AND e.priority = w.priority AND e.id NOT IN (SELECT id FROM waiting)
)
FROM waiting w ORDER BY w.message_time, w.id
"""


class Waiting(NamedTuple):
    """A message that a claim would take now, unless its recipient has opted out.

    `behind`: an earlier one of its conversation waits elsewhere.
    """

    id: str
    sender: str
    conversation_id: str
    behind: bool = False


async def load_waiting(connection: HotConnection, outbox_ids: Sequence[str]) -> list[Waiting]:
    """Return the messages that wait in envelopes, in order of acceptance."""
    cursor = await connection.execute(_WAITING, (plain_array(outbox_ids),))
    return [Waiting._make(row) for row in await cursor.fetchall()]
