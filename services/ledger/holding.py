"""The transaction that leaves messages of unknown outcome to a person, and says why."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from services.ledger.arrays import plain_array, storable, text_array
from services.ledger.database import HotConnection
from services.ledger.outbox import EVENT_SUBJECT

# A receipt or a person may have settled the message meanwhile: then there is nothing to be held.
_HOLD = """
WITH moved AS (
  UPDATE messages m SET event_count = m.event_count + 1
  FROM unnest(%(id)s::uuid[], %(attempt)s::smallint[], %(provider)s::text[], %(detail)s::text[])
    AS i(id, attempt, provider, detail)
  WHERE m.id = i.id AND m.state = 'unknown' AND m.attempt_count = i.attempt
  RETURNING m.id, m.event_count, m.conversation_id, m.channel, m.sender, m.recipient, m.attempt_count,
    i.provider, i.detail
), logged AS (
  INSERT INTO message_events (message_id, sequence, type, create_time, attempt_number, provider, detail)
  SELECT id, event_count, 'held', now(), attempt_count, provider, detail FROM moved
), news AS (
  INSERT INTO outbox (id, subject, message_ids, create_time, due_time)
  SELECT %(event_outbox_id)s::uuid, %(event_subject)s, array_agg(id), now(),
    now() + make_interval(secs => %(republish_after)s)
  FROM moved HAVING count(*) > 0
)
SELECT id::text, event_count, conversation_id::text, channel, sender, recipient, attempt_count, provider,
  now()
FROM moved
"""


@dataclass(frozen=True, slots=True)
class Hold:
    """A message whose outcome stays unknown until a receipt or a person settles it, and why."""

    id: str
    attempt: int
    detail: str
    provider: str | None = None


class Held(NamedTuple):
    """The event of a hold, with what describes its message."""

    id: str
    event_count: int
    conversation_id: str
    channel: str
    sender: str
    recipient: str
    attempt: int
    provider: str | None
    create_time: datetime


async def hold(
    connection: HotConnection, holds: Sequence[Hold], *, event_outbox_id: str, republish_after: float
) -> list[Held]:
    """Leave an event on each message that is still UNKNOWN in that attempt, and return those."""
    cursor = await connection.execute(
        _HOLD,
        {
            "id": plain_array([one.id for one in holds]),
            "attempt": plain_array([one.attempt for one in holds]),
            "provider": text_array([one.provider for one in holds]),
            "detail": text_array([storable(one.detail) for one in holds]),
            "event_outbox_id": event_outbox_id,
            "event_subject": EVENT_SUBJECT,
            "republish_after": republish_after,
        },
    )
    return [Held._make(row) for row in await cursor.fetchall()]
