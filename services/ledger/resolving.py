"""The transaction by which a person settles a message whose outcome is unknown."""

from datetime import datetime
from typing import NamedTuple

from services.kit.ids import new_id
from services.ledger.accept import DISPATCH_SUBJECT
from services.ledger.arrays import storable
from services.ledger.burying import burying
from services.ledger.database import HotConnection
from services.ledger.outbox import DEAD_LETTER_SUBJECT, EVENT_SUBJECT

_DEAD = """SELECT id, channel, provider, 'resolved', 'resolved', %(detail)s, attempt_count, now()
  FROM moved WHERE %(state)s = 'failed'"""

# An inquiry that is under way finds the message moved, and records what it has found as an event alone.
_RESOLVE = f"""
WITH moved AS (
  UPDATE messages SET state = %(state)s, event_count = event_count + 1, state_sequence = event_count + 1,
    update_time = now(), next_attempt_time = CASE %(state)s WHEN 'pending' THEN now() END,
    error_code = CASE %(state)s WHEN 'failed' THEN 'resolved' END,
    error_message = CASE %(state)s WHEN 'failed' THEN %(detail)s::text END
  WHERE id = %(id)s AND state = 'unknown'
  RETURNING id, event_count, conversation_id, channel, sender, recipient, priority, provider, attempt_count
), logged AS (
  INSERT INTO message_events (message_id, sequence, type, create_time, attempt_number, provider, detail)
  SELECT id, event_count, %(event)s, now(), attempt_count, provider, %(detail)s FROM moved
), proven AS (
  UPDATE dispatch_attempts a SET outcome = 'accepted', error_code = NULL, error_message = %(detail)s
  FROM moved m WHERE %(state)s = 'sent' AND a.message_id = m.id AND a.number = m.attempt_count
    AND a.outcome = 'unknown'
), queued AS (
  INSERT INTO outbox (id, subject, message_ids, create_time, due_time)
  SELECT gen_random_uuid(), {DISPATCH_SUBJECT}, ARRAY[id], now(), now()
  FROM moved WHERE %(state)s = 'pending'
), {burying(_DEAD)}
SELECT event_count, conversation_id::text, channel, sender, recipient, provider, attempt_count, now()
FROM moved
"""  # noqa: S608 - only constants of this project go into the text

# Event that brings a message from UNKNOWN into each state it may be resolved to.
EVENT_OF = {"sent": "sent", "pending": "retrying", "failed": "failed"}


class Resolved(NamedTuple):
    """The event of a resolution, with what describes its message."""

    sequence: int
    conversation_id: str
    channel: str
    sender: str
    recipient: str
    provider: str | None
    attempt: int
    create_time: datetime


async def resolve(
    connection: HotConnection,
    message_id: str,
    *,
    state: str,
    reason: str,
    event_outbox_id: str,
    republish_after: float,
) -> Resolved | None:
    """Move a message from UNKNOWN to `state`, one of EVENT_OF; None when it is not UNKNOWN (any more).

    Sent: its attempt counts as accepted. Pending: it waits in its lane. Failed: it is a dead letter. The
    reason is kept in the history.
    """
    cursor = await connection.execute(
        _RESOLVE,
        {
            "id": message_id,
            "state": state,
            "event": EVENT_OF[state],
            "detail": storable(f"resolved by hand: {reason}"),
            "dead_outbox_id": new_id(),
            "dead_subject": DEAD_LETTER_SUBJECT,
            "event_outbox_id": event_outbox_id,
            "event_subject": EVENT_SUBJECT,
            "republish_after": republish_after,
        },
    )
    row = await cursor.fetchone()
    return None if row is None else Resolved._make(row)
