"""What waits in envelopes that nobody has claimed yet."""

from collections.abc import Sequence
from typing import NamedTuple

from services.ledger.arrays import plain_array
from services.ledger.database import HotConnection

_WAITING = """
SELECT m.id::text, m.sender FROM outbox o, unnest(o.message_ids) AS w(message_id), messages m
WHERE o.id = ANY(%s::uuid[]) AND (o.owner IS NULL OR o.owner = 0) AND m.id = w.message_id
  AND m.state IN ('pending', 'scheduled') AND (m.expire_time IS NULL OR m.expire_time > now())
ORDER BY m.id
"""


class Waiting(NamedTuple):
    """A message that a claim would take now, unless its recipient has opted out."""

    id: str
    sender: str


async def load_waiting(connection: HotConnection, outbox_ids: Sequence[str]) -> list[Waiting]:
    """Return the messages that wait in envelopes, in order of acceptance."""
    cursor = await connection.execute(_WAITING, (plain_array(outbox_ids),))
    return [Waiting._make(row) for row in await cursor.fetchall()]
