"""The statements of event deliveries: noting what is to be posted, claiming, settling, replaying."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from services.kit.ids import NO_ID
from services.ledger.arrays import plain_array
from services.ledger.database import HotConnection

# Seconds after which an event is not noted any more: news of an old message would bring all its events again
# whose deliveries have been deleted meanwhile. As long as the broker keeps events.
OLDEST: Final = 7 * 86_400.0

_NEW: Final = """
INSERT INTO event_deliveries AS d (id, subscription_id, message_id, sequence, event_type, event_time,
  conversation_id, state, due_time, create_time)
SELECT gen_random_uuid(), s.id, e.message_id, e.sequence, e.type, e.create_time, m.conversation_id,
  CASE WHEN s.disable_time IS NULL THEN 'pending' ELSE 'held' END,
  CASE WHEN s.disable_time IS NULL THEN now() END, now()
FROM unnest(%(messages)s::uuid[]) AS wanted (id)
JOIN messages m ON m.id = wanted.id
JOIN message_events e ON e.message_id = m.id
CROSS JOIN subscriptions s
"""

# In one order everywhere: two processes that note the same events wait for each other, and never in a ring.
_NOTE = f"""{_NEW}
WHERE e.create_time >= s.create_time AND e.create_time > now() - make_interval(secs => %(oldest)s::float8)
  AND (s.event_types = '{{}}' OR e.type = ANY(s.event_types))
ORDER BY s.id, e.message_id, e.sequence
ON CONFLICT DO NOTHING
"""

_NOTE_AGAIN = f"""{_NEW}
WHERE s.id = %(subscription)s AND e.sequence = %(sequence)s
ON CONFLICT (subscription_id, message_id, sequence)
DO UPDATE SET state = 'pending', due_time = now(), attempt_count = 0
"""

# Nothing overtakes an event of its conversation that was not tried yet; a retry holds up nothing. So the
# first of each conversation is looked at, from one to the next along the index, and none twice before all
# had their turn: neither a long conversation nor a lost claim holds up another one.
_FIRST: Final = """
SELECT p.conversation_id, p.id, p.due_time FROM event_deliveries p
WHERE p.subscription_id = k.id AND p.due_time IS NOT NULL AND p.attempt_count = 0
  AND p.conversation_id > {place}
ORDER BY p.conversation_id, p.event_time, p.message_id, p.sequence LIMIT 1
"""

# Those of whom least is held come first, and among them those that come first in the arrays, after those that
# are not there: what room there is makes them even. Only constants of this module go into the texts.
_CLAIM = f"""
WITH due AS (
  SELECT e.id FROM (
    SELECT s.id, k.room, k.place, coalesce(k.held, 0) AS held, coalesce(k.turn, 0) AS turn
    FROM subscriptions s
    LEFT JOIN unnest(%(known)s::uuid[], %(rooms)s::int[], %(places)s::uuid[], %(held)s::int[]) WITH ORDINALITY
      AS k (subscription_id, room, place, held, turn) ON k.subscription_id = s.id
    WHERE s.disable_time IS NULL
  ) k,
  LATERAL (
    (
      SELECT id FROM event_deliveries
      WHERE subscription_id = k.id AND due_time <= now() AND attempt_count > 0
      ORDER BY due_time LIMIT (coalesce(k.room, %(most)s) + 3) / 4
    ) UNION ALL (
      WITH RECURSIVE firsts AS (
        ({_FIRST.format(place="coalesce(k.place, %(start)s::uuid)")})
        UNION ALL
        SELECT n.* FROM firsts f, LATERAL ({_FIRST.format(place="f.conversation_id")}) n
      )
      SELECT id FROM firsts WHERE due_time <= now() LIMIT coalesce(k.room, %(most)s)
    )
  ) w JOIN event_deliveries e ON e.id = w.id
  WHERE e.due_time <= now()
  ORDER BY k.held, k.turn LIMIT %(room)s FOR UPDATE OF e SKIP LOCKED
)
UPDATE event_deliveries e SET due_time = now() + make_interval(secs => %(lease)s::float8)
FROM due, subscriptions s WHERE e.id = due.id AND s.id = e.subscription_id
RETURNING e.id::text, s.id::text, e.message_id::text, e.sequence, e.conversation_id::text, e.event_time,
  e.attempt_count, e.due_time, s.url, s.secret, CASE WHEN s.overlap_end_time > now() THEN s.old_secret END
"""  # noqa: S608

_GIVE_BACK = """
UPDATE event_deliveries e SET due_time = now()
FROM unnest(%(ids)s::uuid[], %(lease_ends)s::timestamptz[]) AS t (id, lease_end)
WHERE e.id = t.id AND e.due_time = t.lease_end
"""

# Attempts that are kept of a delivery; replays begin to count anew and do not forget.
_KEPT: Final = 50


def _attempts(status: str, error: str, duration: str) -> str:
    """Return what follows of the attempts when one more has ended."""
    return f"""
    attempts = CASE WHEN jsonb_array_length(attempts) < {_KEPT} THEN attempts ELSE attempts - 0 END
      || jsonb_build_array(jsonb_build_array(now(), {status}::int, {error}::text, {duration}::int))
"""


# The lease is the fence: whoever has lost it, to another process or to a replay, settles nothing.
_DELIVERED = f"""
WITH settled AS (
  UPDATE event_deliveries e SET state = 'delivered', due_time = NULL, attempt_count = attempt_count + 1,
    attempt_time = now(), status_code = t.status, error = NULL, duration_ms = t.duration,
    {_attempts("t.status", "NULL", "t.duration")}
  FROM unnest(%(ids)s::uuid[], %(lease_ends)s::timestamptz[], %(statuses)s::int[], %(durations)s::int[])
    AS t (id, lease_end, status, duration)
  WHERE e.id = t.id AND e.due_time = t.lease_end
)
UPDATE subscriptions SET fail_time = NULL WHERE id = ANY(%(subscriptions)s::uuid[]) AND fail_time IS NOT NULL
"""  # noqa: S608

_FAILED = f"""
WITH settled AS (
  UPDATE event_deliveries SET state = CASE WHEN %(last)s THEN 'failed' ELSE 'pending' END,
    due_time = CASE WHEN NOT %(last)s THEN now() + make_interval(secs => %(again_after)s::float8) END,
    attempt_count = attempt_count + 1, attempt_time = now(), status_code = %(status)s, error = %(error)s,
    duration_ms = %(duration)s,
    {_attempts("%(status)s", "%(error)s", "%(duration)s")}
  WHERE id = %(id)s AND due_time = %(lease_end)s
)
UPDATE subscriptions SET fail_time = coalesce(fail_time, now()),
  disable_reason = CASE WHEN %(gone)s THEN 'gone' WHEN fail_time <= limits.since THEN 'failing' END,
  disable_time = CASE WHEN %(gone)s OR fail_time <= limits.since THEN now() END
FROM (SELECT now() - make_interval(secs => %(disable_after)s::float8) AS since) limits
WHERE id = %(subscription)s AND disable_time IS NULL
  AND (fail_time IS NULL OR %(gone)s OR fail_time <= limits.since)
RETURNING disable_reason
"""  # noqa: S608

_REPLAY = """
WITH chosen AS (
  SELECT id FROM event_deliveries
  WHERE subscription_id = %(subscription)s AND event_time >= %(since)s AND event_time < %(until)s
    AND NOT (%(undelivered_only)s AND state = 'delivered')
  ORDER BY event_time, id LIMIT %(limit)s
), replayed AS (
  UPDATE event_deliveries d SET state = 'pending', due_time = now(), attempt_count = 0
  FROM chosen WHERE d.id = chosen.id RETURNING d.event_time
)
SELECT count(*), max(event_time) FROM replayed
"""

_MESSAGES_SINCE = """
SELECT id::text FROM messages WHERE id > %(after)s::uuid ORDER BY id LIMIT %(limit)s
"""

_OLDEST_SUBSCRIPTION = "SELECT min(create_time) FROM subscriptions"


class Claimed(NamedTuple):
    """A delivery to try now; this process has it until `lease_end`. `old_secret` signs as well, if any."""

    id: str
    subscription_id: str
    message_id: str
    sequence: int
    conversation_id: str
    event_time: datetime
    attempt_count: int
    lease_end: datetime
    url: str
    secret: str
    old_secret: str | None


class Share(NamedTuple):
    """How many deliveries of a subscription to claim beside those `held`, and after which conversation.

    A few retries come on top.
    """

    room: int
    place: str
    held: int


class Tried(NamedTuple):
    """What an attempt came to: the HTTP status or 0, why it failed, and the milliseconds it took."""

    status: int
    error: str | None
    duration_ms: int


async def oldest_subscription(connection: HotConnection) -> datetime | None:
    """Return when the oldest subscription was made, None when there is none."""
    row = await (await connection.execute(_OLDEST_SUBSCRIPTION)).fetchone()
    return row[0] if row else None


async def note(connection: HotConnection, message_ids: Sequence[str]) -> int:
    """Note every event of messages that a subscription waits for; return how many were new."""
    parameters = {"messages": plain_array(message_ids), "oldest": OLDEST}
    return (await connection.execute(_NOTE, parameters)).rowcount


async def messages_after(connection: HotConnection, after: str, limit: int) -> list[str]:
    """Return ids of messages that follow an id."""
    cursor = await connection.execute(_MESSAGES_SINCE, {"after": after, "limit": limit})
    return [row[0] for row in await cursor.fetchall()]


async def claim(
    connection: HotConnection, *, shares: Mapping[str, Share], most: int, room: int, lease: float
) -> list[Claimed]:
    """Take what is due for `lease` seconds: `room` in all, for each subscription its share or `most`.

    Where `room` is short, subscriptions of which less is held go first, then those earlier in `shares`.
    """
    cursor = await connection.execute(
        _CLAIM,
        {
            "known": plain_array(shares),
            "rooms": plain_array(share.room for share in shares.values()),
            "places": plain_array(share.place for share in shares.values()),
            "held": plain_array(share.held for share in shares.values()),
            "start": NO_ID,
            "most": most,
            "room": room,
            "lease": lease,
        },
    )
    return [Claimed._make(row) for row in await cursor.fetchall()]


async def give_back(connection: HotConnection, claimed: Sequence[Claimed]) -> None:
    """End the leases of what was not tried, for others to claim."""
    await connection.execute(
        _GIVE_BACK,
        {
            "ids": plain_array(each.id for each in claimed),
            "lease_ends": plain_array(each.lease_end.isoformat() for each in claimed),
        },
    )


async def settle_delivered(connection: HotConnection, taken: Sequence[tuple[Claimed, Tried]]) -> None:
    """Note that endpoints have taken events."""
    await connection.execute(
        _DELIVERED,
        {
            "ids": plain_array(claimed.id for claimed, _ in taken),
            "lease_ends": plain_array(claimed.lease_end.isoformat() for claimed, _ in taken),
            "statuses": plain_array(tried.status for _, tried in taken),
            "durations": plain_array(tried.duration_ms for _, tried in taken),
            "subscriptions": plain_array({claimed.subscription_id for claimed, _ in taken}),
        },
    )


async def settle_failed(
    connection: HotConnection,
    claimed: Claimed,
    tried: Tried,
    *,
    again_after: float | None,
    gone: bool,
    disable_after: float,
) -> str | None:
    """Note that an attempt failed; return why its subscription was disabled by that, None when it was not.

    `again_after` seconds say when to try again, None: not by itself.
    """
    cursor = await connection.execute(
        _FAILED,
        {
            "id": claimed.id,
            "subscription": claimed.subscription_id,
            "lease_end": claimed.lease_end,
            "status": tried.status or None,
            "error": tried.error,
            "duration": tried.duration_ms,
            "last": again_after is None,
            "again_after": again_after or 0.0,
            "gone": gone,
            "disable_after": disable_after,
        },
    )
    row = await cursor.fetchone()
    return row[0] if row else None


async def replay_one(connection: HotConnection, subscription_id: str, message_id: str, sequence: int) -> int:
    """Have one event posted again, or for the first time; return 0 when there is no such event."""
    parameters = {
        "messages": plain_array([message_id]),
        "subscription": subscription_id,
        "sequence": sequence,
    }
    return (await connection.execute(_NOTE_AGAIN, parameters)).rowcount


async def replay_range(
    connection: HotConnection,
    subscription_id: str,
    since: datetime,
    until: datetime,
    *,
    undelivered_only: bool,
    limit: int,
) -> tuple[int, datetime | None]:
    """Have the oldest `limit` events of a range posted again; return how many, and the time of the last."""
    cursor = await connection.execute(
        _REPLAY,
        {
            "subscription": subscription_id,
            "since": since,
            "until": until,
            "undelivered_only": undelivered_only,
            "limit": limit,
        },
    )
    row = await cursor.fetchone()
    return (row[0], row[1]) if row else (0, None)
