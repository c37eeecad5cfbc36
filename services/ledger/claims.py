"""The claim: the fence that lets one dispatcher, and no other, send a message."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from psycopg.rows import TupleRow

from services.kit.keyring import ContentError, Keyring
from services.ledger.arrays import plain_array
from services.ledger.database import HotConnection
from services.ledger.outbox import EVENT_SUBJECT
from services.ledger.sealing import open_content
from services.ledger.statements import HotStatement


def comes_later(message: str) -> str:
    """Return the condition that a row of `messages`, by its alias, waits for more than 1 s."""
    return f"coalesce({message}.next_attempt_time > now() + interval '1 second', false)"


def _may_go(message: str, work: str) -> str:
    """Return the condition that a message may be claimed, by the aliases of its row and of its envelope's."""
    return f"""{message}.state IN ('pending', 'scheduled')
    AND NOT ({work}.abandoned AND {comes_later(message)})
    AND ({message}.expire_time IS NULL OR {message}.expire_time > now())
    AND NOT EXISTS (
      SELECT FROM opt_outs p WHERE p.recipient = {message}.recipient AND p.sender = {message}.sender
        AND NOT {message}.transactional
    )"""


# An envelope belongs to the dispatcher whose key it carries, until it is deleted or swept. Only waiting
# messages of it are taken; whatever else became of the others (cancelled, sent) is none of our business.
# What has expired, or whose recipient has opted out, is left waiting: see ledger/refusals. So is what a
# dispatcher that died had put back for later: it has an envelope of its own, with its time and lane.
_STATEMENT = f"""
WITH free AS (
  SELECT id, owner FROM outbox WHERE id = ANY(%(outbox_ids)s::uuid[]) AND (owner IS NULL OR owner = 0)
  ORDER BY id FOR UPDATE SKIP LOCKED
), taken AS (
  UPDATE outbox o SET owner = %(owner)s, due_time = now() + make_interval(secs => %(lease)s)
  FROM free WHERE o.id = free.id
  RETURNING o.id, o.message_ids, free.owner IS NOT NULL AS abandoned
), claimed AS (
  UPDATE messages m SET state = 'sending', attempt_count = m.attempt_count + 1,
    event_count = m.event_count + 1, state_sequence = m.event_count + 1, attempt_time = now(),
    update_time = now(), next_attempt_time = NULL
  FROM (<work>) w
  WHERE m.id = w.message_id AND {_may_go("m", "w")}
  RETURNING m.id, w.outbox_id, m.conversation_id, m.channel, m.sender, m.recipient, m.subject, m.body,
    m.html, m.attachments, m.attempt_count, m.event_count, m.attempt_time, m.create_time,
    m.expire_time, m.priority, m.transactional, m.reply_to, m.sealed_by
), logged AS (
  INSERT INTO message_events (message_id, sequence, type, create_time, attempt_number)
  SELECT id, event_count, 'sending', now(), attempt_count FROM claimed
), news AS (
  INSERT INTO outbox (id, subject, message_ids, create_time, due_time)
  SELECT %(event_outbox_id)s::uuid, %(event_subject)s, array_agg(id), now(),
    now() + make_interval(secs => %(republish_after)s)
  FROM claimed HAVING count(*) > 0
)
SELECT c.id::text, taken.id::text, c.conversation_id::text, c.channel, c.sender, c.recipient, c.subject,
  c.body, c.html, c.attachments, c.attempt_count, c.event_count, c.attempt_time, c.create_time,
  c.expire_time, c.priority, c.transactional, c.reply_to, c.sealed_by, taken.abandoned
FROM taken LEFT JOIN claimed c ON c.outbox_id = taken.id ORDER BY c.create_time, c.id
"""  # noqa: S608 - only aliases of this module go into the text

_CLAIM = HotStatement(
    _STATEMENT.replace(
        "<work>",
        "SELECT taken.id AS outbox_id, unnest(taken.message_ids) AS message_id, taken.abandoned FROM taken",
    )
)

# The first ones that may be sent, for as many as the limit says; the envelopes are kept for the others.
_CLAIM_SOME = HotStatement(
    _STATEMENT.replace(
        "<work>",
        f"""
    SELECT u.outbox_id, u.message_id, u.abandoned
    FROM (
      SELECT taken.id AS outbox_id, unnest(taken.message_ids) AS message_id, taken.abandoned FROM taken
    ) u, messages n
    WHERE n.id = u.message_id AND {_may_go("n", "u")}
      AND (%(only)s::uuid[] IS NULL OR n.id = ANY(%(only)s::uuid[]))
    ORDER BY n.create_time, n.id LIMIT %(limit)s
  """,  # noqa: S608 - the same
    )
)

# Envelopes that nobody has claimed are put off; those a dead dispatcher held want to be looked into.
_PUT_OFF = """
WITH free AS (
  SELECT o.id, o.owner, t.delay
  FROM outbox o JOIN unnest(%(outbox_ids)s::uuid[], %(delays)s::float8[]) AS t(id, delay) USING (id)
  WHERE o.owner IS NULL OR o.owner = 0
  ORDER BY o.id FOR UPDATE OF o SKIP LOCKED
), moved AS (
  UPDATE outbox o SET due_time = now() + make_interval(secs => free.delay)
  FROM free WHERE o.id = free.id AND free.owner IS NULL
)
SELECT id::text FROM free WHERE owner = 0
"""

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


# What is given back without those of its messages that are done with. Where none remains, there is nothing
# to give back: an envelope without messages would be put off for ever, since it asks for none.
_KEEP = """
WITH kept AS (
  SELECT id, ARRAY(
    SELECT u.id FROM unnest(message_ids) WITH ORDINALITY AS u(id, place)
    WHERE NOT u.id = ANY(%(without)s::uuid[]) ORDER BY u.place
  ) AS message_ids
  FROM outbox WHERE id = ANY(%(outbox_ids)s::uuid[]) AND owner = %(owner)s ORDER BY id FOR UPDATE
), done AS (
  DELETE FROM outbox o USING kept WHERE o.id = kept.id AND cardinality(kept.message_ids) = 0
)
UPDATE outbox o SET owner = NULL, due_time = now() + make_interval(secs => %(delay)s),
  message_ids = kept.message_ids
FROM kept WHERE o.id = kept.id AND cardinality(kept.message_ids) > 0
"""


class ClaimedMessage(NamedTuple):
    """A message that is ours to send. `event_count` is the sequence of its `sending` event."""

    id: str
    outbox_id: str
    conversation_id: str
    channel: str
    sender: str
    recipient: str
    subject: str | None
    body: str
    html: str | None
    attachments: list[dict[str, Any]] | None
    attempt: int
    event_count: int
    attempt_time: datetime
    create_time: datetime
    expire_time: datetime | None
    priority: str
    transactional: bool
    # Where this e-mail is answered to; None: as the settings say for its sender.
    reply_to: str | None
    # Why its content cannot be opened, where it cannot; then it is not to be sent.
    content_error: ContentError | None = None


def _messages(connection: HotConnection, rows: Sequence[TupleRow]) -> list[ClaimedMessage]:
    """Return the messages of rows: ClaimedMessage's fields, `sealed_by`, and something of the envelope."""
    return [
        ClaimedMessage(*row[:18]) if row[18] is None else _open(connection.keyring, row)
        for row in rows
        if row[0] is not None
    ]


def _open(keyring: Keyring, row: TupleRow) -> ClaimedMessage:
    message = ClaimedMessage(*row[:18])
    try:
        content = open_content(
            keyring,
            message.id,
            row[18],
            message.subject,
            message.body,
            message.html,
            message.attachments,
        )
    except ContentError as error:
        return message._replace(subject=None, body="", html=None, attachments=None, content_error=error)
    return message._replace(
        subject=content.subject, body=content.body, html=content.html, attachments=content.attachments
    )


async def claim(
    connection: HotConnection,
    outbox_ids: Sequence[str],
    *,
    owner: int,
    lease: float,
    event_outbox_id: str,
    republish_after: float,
    limit: int | None = None,
    only: Sequence[str] | None = None,
) -> tuple[list[ClaimedMessage], dict[str, bool]]:
    """Take envelopes that nobody holds, and the waiting messages in them, at most `limit` of them.

    With `only`, no other messages than those. Returns the messages in order of acceptance, and the ids of
    the envelopes that are ours now: those whose value is true were held before by a dispatcher that has
    died, perhaps over some messages.
    """
    statement = _CLAIM if limit is None and only is None else _CLAIM_SOME
    cursor = await statement.execute(
        connection,
        {
            "outbox_ids": plain_array(outbox_ids),
            "owner": owner,
            "lease": lease,
            "limit": limit,
            "only": None if only is None else plain_array(only),
            "event_outbox_id": event_outbox_id,
            "event_subject": EVENT_SUBJECT,
            "republish_after": republish_after,
        },
    )
    rows = await cursor.fetchall()
    taken = {row[1]: row[19] for row in rows}
    return _messages(connection, rows), taken


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
    return _messages(connection, rows), taken


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


async def keep(
    connection: HotConnection,
    outbox_ids: Sequence[str],
    *,
    without: Sequence[str],
    owner: int,
    delay: float,
) -> None:
    """Give envelopes back without the messages that are done with, to be published after `delay` seconds.

    What is to be tried again has a row of its own, and must not be taken before its time through this one.
    An envelope in which nothing remains is closed.
    """
    await connection.execute(
        _KEEP,
        {
            "delay": delay,
            "without": plain_array(without),
            "outbox_ids": plain_array(outbox_ids),
            "owner": owner,
        },
    )


async def put_off(connection: HotConnection, delays: Mapping[str, float]) -> list[str]:
    """Have unclaimed envelopes published again after so many seconds, without touching their messages.

    Returns those that a dispatcher held which has died: they are left as they are.
    """
    cursor = await connection.execute(
        _PUT_OFF, {"outbox_ids": plain_array(delays), "delays": plain_array(delays.values())}
    )
    return [row[0] for row in await cursor.fetchall()]


async def renew(
    connection: HotConnection, outbox_ids: Collection[str], *, owner: int, lease: float
) -> set[str]:
    """Push on the end of the lease of envelopes that are still being worked on; return those still ours."""
    cursor = await connection.execute(
        "UPDATE outbox SET due_time = now() + make_interval(secs => %s)"
        " WHERE id = ANY(%s::uuid[]) AND owner = %s RETURNING id::text",
        (lease, plain_array(outbox_ids), owner),
    )
    return {row[0] for row in await cursor.fetchall()}
