"""The transaction that gives up what may not be sent any more: expired, or the recipient has opted out."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.kit.ids import new_id
from services.ledger.arrays import plain_array
from services.ledger.burying import burying
from services.ledger.claims import comes_later
from services.ledger.database import HotConnection
from services.ledger.outbox import DEAD_LETTER_SUBJECT, EVENT_SUBJECT

_DEAD = "SELECT id, channel, provider, error_code, error_code, error_message, attempt_count, now() FROM moved"

# What the claim has left waiting in envelopes that are ours. A message that has become sendable since then
# (the contact has opted in again) gets a new envelope, since its old one is about to be deleted. What waits
# for another attempt at a later time has one.
_REFUSE = f"""
WITH waiting AS (
  SELECT m.id, e.subject, m.attempt_count > 0 AND {comes_later("m")} AS has_own, CASE
    WHEN m.expire_time <= now() THEN 'expired'
    WHEN NOT m.transactional AND EXISTS (
      SELECT FROM opt_outs o WHERE o.recipient = m.recipient AND o.sender = m.sender
    ) THEN 'opted_out' END AS error_code
  FROM outbox e, unnest(e.message_ids) AS w(message_id), messages m
  WHERE e.id = ANY(%(outbox_ids)s::uuid[]) AND e.owner IS NOT DISTINCT FROM %(owner)s
    AND m.id = w.message_id AND m.state IN ('pending', 'scheduled')
  ORDER BY m.id
), moved AS (
  UPDATE messages m SET state = 'failed', event_count = m.event_count + 1,
    state_sequence = m.event_count + 1, update_time = now(), next_attempt_time = NULL,
    error_code = w.error_code,
    error_message = CASE w.error_code WHEN 'expired' THEN 'expire_time has passed'
      ELSE 'the recipient has opted out of messages from this sender' END
  FROM waiting w WHERE m.id = w.id AND w.error_code IS NOT NULL AND m.state IN ('pending', 'scheduled')
  RETURNING m.id, m.event_count, m.conversation_id, m.channel, m.sender, m.recipient, m.provider,
    m.error_code, m.error_message, m.attempt_count
), logged AS (
  INSERT INTO message_events (message_id, sequence, type, create_time, error_code, detail)
  SELECT id, event_count, 'failed', now(), error_code, error_message FROM moved
), again AS (
  INSERT INTO outbox (id, subject, message_ids, create_time, due_time)
  SELECT gen_random_uuid(), subject, array_agg(id), now(), now()
  FROM waiting WHERE error_code IS NULL AND NOT has_own AND %(owner)s::int IS NOT NULL GROUP BY subject
), {burying(_DEAD)}
SELECT id::text, event_count, conversation_id::text, channel, sender, recipient, error_code, now() FROM moved
"""  # noqa: S608 - only constants of this project go into the text


@dataclass(frozen=True, slots=True)
class RefusedMessage:
    """A message that was given up without an attempt. `error_code` is `expired` or `opted_out`."""

    id: str
    event_count: int
    conversation_id: str
    channel: str
    sender: str
    recipient: str
    error_code: str
    create_time: datetime


async def refuse_waiting(
    connection: HotConnection,
    outbox_ids: Sequence[str],
    *,
    owner: int | None,
    event_outbox_id: str,
    republish_after: float,
) -> list[RefusedMessage]:
    """Fail what a claim of these envelopes has left waiting, and return it; it is dead-lettered as well.

    Without an owner the envelopes are those that nobody has claimed, and they keep what may be sent later.
    Doing it again changes nothing.
    """
    cursor = await connection.execute(
        _REFUSE,
        {
            "outbox_ids": plain_array(outbox_ids),
            "owner": owner,
            "dead_outbox_id": new_id(),
            "dead_subject": DEAD_LETTER_SUBJECT,
            "event_outbox_id": event_outbox_id,
            "event_subject": EVENT_SUBJECT,
            "republish_after": republish_after,
        },
    )
    return [RefusedMessage(*row) for row in await cursor.fetchall()]
