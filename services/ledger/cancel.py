"""The transaction that cancels a waiting message."""

from dataclasses import dataclass
from datetime import datetime

from services.ledger.database import HotConnection
from services.ledger.outbox import EVENT_SUBJECT

_CANCEL = """
WITH moved AS (
  UPDATE messages SET state = 'cancelled', event_count = event_count + 1, state_sequence = event_count + 1,
    update_time = now(), next_attempt_time = NULL
  WHERE id = %(id)s AND state IN ('pending', 'scheduled')
  RETURNING id, event_count, conversation_id, channel, sender, recipient
), logged AS (
  INSERT INTO message_events (message_id, sequence, type, create_time)
  SELECT id, event_count, 'cancelled', now() FROM moved
), news AS (
  INSERT INTO outbox (id, subject, message_ids, create_time, due_time)
  SELECT %(event_outbox_id)s::uuid, %(event_subject)s, array_agg(id), now(),
    now() + make_interval(secs => %(republish_after)s)
  FROM moved HAVING count(*) > 0
)
SELECT event_count, now(), conversation_id::text, channel, sender, recipient FROM moved
"""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The event of a cancellation, with what describes its message."""

    sequence: int
    create_time: datetime
    conversation_id: str
    channel: str
    sender: str
    recipient: str


async def cancel(
    connection: HotConnection, message_id: str, *, event_outbox_id: str, republish_after: float
) -> Cancelled | None:
    """Cancel a message that no dispatcher has claimed; None when there is none such.

    Its id stays in its envelope, where the claim will pass it over.
    """
    cursor = await connection.execute(
        _CANCEL,
        {
            "id": message_id,
            "event_outbox_id": event_outbox_id,
            "event_subject": EVENT_SUBJECT,
            "republish_after": republish_after,
        },
    )
    row = await cursor.fetchone()
    return None if row is None else Cancelled(*row)
