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


def claimed_messages(connection: HotConnection, rows: Sequence[TupleRow]) -> list[ClaimedMessage]:
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
    return claimed_messages(connection, rows), taken


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
