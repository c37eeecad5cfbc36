"""Attempts that were cut short: what a dead dispatcher left, and what providers are to be asked about."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from services.ledger.arrays import plain_array
from services.ledger.claims import ClaimedMessage, claimed_messages
from services.ledger.database import HotConnection
from services.ledger.outbox import EVENT_SUBJECT

# What a dead dispatcher left in SENDING, in envelopes that are now ours: nobody knows whether it went out.
# Where a receipt has moved the message on meanwhile, it did, and only the attempt was not recorded; but of a
# receipt of an earlier attempt, which says nothing of this one. What was put back for a retry is in another
# envelope as well, whose holder may be sending it right now: or may have taken that one over at the same
# moment, and find it held by us. So it is looked at again later.
_ORPHANS = """
WITH held AS MATERIALIZED (
  SELECT unnest(message_ids) AS message_id FROM outbox
  WHERE owner > 0 AND NOT id = ANY(%(outbox_ids)s::uuid[])
), left_over AS (
  SELECT m.id, o.subject, EXISTS (SELECT FROM held WHERE held.message_id = m.id) AS elsewhere
  FROM outbox o, unnest(o.message_ids) AS w(message_id), messages m
  WHERE o.id = ANY(%(outbox_ids)s::uuid[]) AND o.owner = %(owner)s
    AND m.id = w.message_id AND m.state = 'sending' AND NOT m.id = ANY(%(own)s::uuid[])
), orphans AS (
  SELECT id FROM left_over WHERE NOT elsewhere ORDER BY id
), later AS (
  INSERT INTO outbox (id, subject, message_ids, create_time, due_time, owner)
  SELECT gen_random_uuid(), subject, array_agg(id), now(), now() + make_interval(secs => %(lease)s), 0
  FROM left_over WHERE elsewhere GROUP BY subject
), proven AS (
  INSERT INTO dispatch_attempts (
    message_id, number, provider, outcome, start_time, end_time, provider_message_id, route_reason, error_code
  )
  SELECT m.id, m.attempt_count, CASE WHEN e.own THEN coalesce(m.provider, '') ELSE '' END,
    CASE WHEN e.own THEN 'accepted' ELSE 'unknown' END, m.attempt_time, now(),
    CASE WHEN e.own THEN m.provider_message_id END, CASE WHEN e.own THEN 'known by its receipt' END,
    CASE WHEN NOT e.own THEN 'dispatcher_lost' END
  FROM outbox o, unnest(o.message_ids) AS w(message_id), messages m, LATERAL (
    SELECT coalesce(s.attempt_number, 0) IN (0, m.attempt_count) AS own FROM message_events s
    WHERE s.message_id = m.id AND s.sequence = m.state_sequence
  ) e
  WHERE o.id = ANY(%(outbox_ids)s::uuid[]) AND o.owner = %(owner)s AND m.id = w.message_id
    AND m.attempt_time IS NOT NULL AND m.state IN ('sent', 'delivered', 'read', 'undelivered')
  ON CONFLICT (message_id, number) DO NOTHING
), moved AS (
  UPDATE messages m SET state = 'unknown', event_count = m.event_count + 1,
    state_sequence = m.event_count + 1, update_time = now(), error_code = 'dispatcher_lost'
  FROM orphans WHERE m.id = orphans.id AND m.state = 'sending'
  RETURNING m.id, m.conversation_id, m.channel, m.sender, m.recipient, m.attempt_count, m.event_count,
    m.attempt_time
), tried AS (
  INSERT INTO dispatch_attempts (message_id, number, provider, outcome, start_time, end_time, error_code)
  SELECT id, attempt_count, '', 'unknown', attempt_time, now(), 'dispatcher_lost' FROM moved
  ON CONFLICT (message_id, number) DO NOTHING
), inquiry AS (
  INSERT INTO outbox (id, subject, message_ids, create_time, due_time)
  SELECT gen_random_uuid(), 'posthouse.dispatch.' || channel || '.inquiry', array_agg(id), now(),
    now() + make_interval(secs => %(inquiry_delay)s)
  FROM moved GROUP BY channel
), logged AS (
  INSERT INTO message_events (message_id, sequence, type, create_time, attempt_number, error_code, detail)
  SELECT id, event_count, 'unknown', now(), attempt_count, 'dispatcher_lost',
    'the dispatcher ended during the attempt' FROM moved
), news AS (
  INSERT INTO outbox (id, subject, message_ids, create_time, due_time)
  SELECT %(event_outbox_id)s::uuid, %(event_subject)s, array_agg(id), now(), now()
  FROM moved HAVING count(*) > 0
)
SELECT id::text, event_count, conversation_id::text, channel, sender, recipient, attempt_count, now()
FROM moved
"""

# Messages whose outcome is to be asked for, in envelopes of the inquiry lane that nobody holds.
_INQUIRIES = """
WITH free AS (
  SELECT id FROM outbox WHERE id = ANY(%(outbox_ids)s::uuid[]) AND (owner IS NULL OR owner = 0)
  ORDER BY id FOR UPDATE SKIP LOCKED
), taken AS (
  UPDATE outbox o SET owner = %(owner)s, due_time = now() + make_interval(secs => %(lease)s)
  FROM free WHERE o.id = free.id
  RETURNING o.id, o.message_ids, o.inquiry_count
)
SELECT m.id::text, w.outbox_id::text, m.conversation_id::text, m.channel, m.sender, m.recipient, m.subject,
  m.body, m.html, m.attachments, m.attempt_count, m.event_count, m.attempt_time, m.create_time,
  m.expire_time, m.priority, m.transactional, m.reply_to, m.sealed_by, w.inquiry_count
FROM (SELECT id AS outbox_id, unnest(message_ids) AS message_id, inquiry_count FROM taken) w
LEFT JOIN messages m ON m.id = w.message_id AND m.state = 'unknown'
ORDER BY m.id
"""


class Orphan(NamedTuple):
    """A message whose attempt was cut short by the end of its dispatcher; it is UNKNOWN now."""

    id: str
    event_count: int
    conversation_id: str
    channel: str
    sender: str
    recipient: str
    attempt: int
    create_time: datetime


async def claim_orphans(
    connection: HotConnection,
    outbox_ids: Sequence[str],
    *,
    owner: int,
    own: Sequence[str],
    lease: float,
    inquiry_delay: float,
    event_outbox_id: str,
) -> list[Orphan]:
    """Mark as UNKNOWN what a dead dispatcher left under way in envelopes that are ours now.

    `own` are the messages this dispatcher has just claimed in them. After `inquiry_delay` seconds the
    providers are to be asked what became of the orphans. What is in an envelope that somebody else holds
    is put into one of its own, to be looked at again after `lease` seconds.
    """
    cursor = await connection.execute(
        _ORPHANS,
        {
            "outbox_ids": plain_array(outbox_ids),
            "owner": owner,
            "own": plain_array(own),
            "lease": lease,
            "inquiry_delay": inquiry_delay,
            "event_outbox_id": event_outbox_id,
            "event_subject": EVENT_SUBJECT,
        },
    )
    return [Orphan._make(row) for row in await cursor.fetchall()]


async def claim_inquiries(
    connection: HotConnection, outbox_ids: Sequence[str], *, owner: int, lease: float
) -> tuple[list[ClaimedMessage], dict[str, int]]:
    """Take envelopes of the inquiry lane.

    Returns the messages in them that are still UNKNOWN, and the ids of the envelopes that are ours now
    with how often their providers have been asked before.
    """
    cursor = await connection.execute(
        _INQUIRIES, {"outbox_ids": plain_array(outbox_ids), "owner": owner, "lease": lease}
    )
    rows = await cursor.fetchall()
    taken = {row[1]: row[19] for row in rows}
    return claimed_messages(connection, rows), taken


async def postpone(
    connection: HotConnection, outbox_ids: Sequence[str], *, owner: int, delay: float, asked: int
) -> None:
    """Give envelopes of the inquiry lane back, to be published again after `delay` seconds.

    `asked` is how often their providers have been asked by now.
    """
    await connection.execute(
        "UPDATE outbox SET owner = NULL, due_time = now() + make_interval(secs => %s),"
        " inquiry_count = %s WHERE id = ANY(%s::uuid[]) AND owner = %s",
        (delay, asked, plain_array(outbox_ids), owner),
    )
