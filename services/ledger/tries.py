"""What earlier attempts of messages came to, as far as it still counts: those since the last replay."""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from services.ledger.arrays import plain_array
from services.ledger.database import HotConnection

_TRIES = """
SELECT a.message_id::text, a.number, a.provider, a.outcome, a.error_code,
  greatest(coalesce(m.send_time, m.create_time), d.replay_time),
  extract(epoch FROM now() - a.end_time)::float8
FROM dispatch_attempts a JOIN messages m ON m.id = a.message_id
  LEFT JOIN dead_letters d ON d.message_id = a.message_id
WHERE a.message_id = ANY(%s::uuid[]) AND (d.replay_time IS NULL OR a.start_time >= d.replay_time)
ORDER BY a.message_id, a.number
"""


class Try(NamedTuple):
    """One ended attempt. `provider` is empty when its dispatcher died before it could say.

    `since` is when its message was to be sent: accepted, scheduled for, or put back by hand. `age` is the
    seconds since the attempt ended.
    """

    message_id: str
    number: int
    provider: str
    outcome: str
    error_code: str | None
    since: datetime
    age: float = math.inf


async def load_tries(connection: HotConnection, message_ids: Sequence[str]) -> dict[str, list[Try]]:
    """Return the ended attempts of messages by message id, oldest first."""
    cursor = await connection.execute(_TRIES, (plain_array(message_ids),))
    tries: dict[str, list[Try]] = {}
    for row in await cursor.fetchall():
        tries.setdefault(row[0], []).append(Try._make(row))
    return tries
