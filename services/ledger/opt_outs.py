"""The transactions of consent: what holds now in opt_outs, and its history in consent_events.

A contact's latest word counts, by the time it was said: news that arrives late or out of order is kept in
the history and changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from services.kit import metrics
from services.kit.ids import new_id
from services.ledger.arrays import plain_array, text_array
from services.ledger.database import HotConnection

Change = Literal["opted_out", "opted_in", "help"]
Source = Literal["contact", "provider", "api"]

# Error codes by which providers say that the recipient has opted out there: Twilio's.
OPTED_OUT_CODES: Final = frozenset({"21610"})

# Two processes must not decide on the same pair at once: neither would see the other's word.
_LOCK = """
SELECT pg_advisory_xact_lock(key) FROM (
  SELECT DISTINCT hashtextextended(recipient || chr(10) || sender, 0) AS key
  FROM unnest(%(recipient)s::text[], %(sender)s::text[]) AS t(recipient, sender) ORDER BY key
) keys
"""

_APPLY = """
WITH input AS (
  SELECT id, recipient, sender, family, change, source, keyword, reason, message_id, caller,
    coalesce(event_time, clock_timestamp()) AS event_time
  FROM unnest(
    %(id)s::uuid[], %(recipient)s::text[], %(sender)s::text[], %(family)s::text[], %(change)s::text[],
    %(source)s::text[], %(keyword)s::text[], %(reason)s::text[], %(message_id)s::uuid[], %(caller)s::text[],
    %(event_time)s::timestamptz[]
  ) AS t(
    id, recipient, sender, family, change, source, keyword, reason, message_id, caller, event_time
  )
), latest AS (
  SELECT i.* FROM input i WHERE NOT EXISTS (
    SELECT FROM consent_events e WHERE e.recipient = i.recipient AND e.sender = i.sender
      AND e.event_time > i.event_time AND e.change IN ('opted_out', 'opted_in')
  )
), added AS (
  INSERT INTO opt_outs (
    recipient, sender, event_id, channel_family, source, keyword, reason, message_id, create_time
  )
  SELECT recipient, sender, id, family, source, keyword, reason, message_id, now()
  FROM latest WHERE change = 'opted_out'
  ON CONFLICT (recipient, sender) DO NOTHING
  RETURNING event_id AS id
), lifted AS (
  DELETE FROM opt_outs o USING latest l
  WHERE l.change = 'opted_in' AND o.recipient = l.recipient AND o.sender = l.sender
  RETURNING l.id
)
INSERT INTO consent_events (
  id, recipient, sender, channel_family, change, source, keyword, reason, message_id, caller, effective,
  event_time, create_time
)
SELECT id, recipient, sender, family, change, source, keyword, reason, message_id, coalesce(caller, ''),
  change = 'help' OR id IN (SELECT id FROM added UNION ALL SELECT id FROM lifted), event_time, now()
FROM input
RETURNING effective, change, source
"""

# Only an opt-out that holds is overridden, and each message overrides once.
_OVERRIDE = """
INSERT INTO consent_events (
  id, recipient, sender, channel_family, change, source, reason, message_id, caller, effective, event_time,
  create_time
)
SELECT t.id, m.recipient, m.sender, m.channel, 'overridden', 'api', 'transactional', m.id, m.caller, true,
  now(), now()
FROM unnest(%(id)s::uuid[], %(message_id)s::uuid[]) AS t(id, message_id)
JOIN messages m ON m.id = t.message_id
JOIN opt_outs o ON o.recipient = m.recipient AND o.sender = m.sender
WHERE m.transactional
ON CONFLICT (message_id) WHERE change = 'overridden' DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class ConsentEntry:
    """What happened to a contact's consent. Addresses are canonical; `event_time` is None for now."""

    sender: str
    recipient: str
    family: str
    change: Change
    source: Source
    keyword: str | None = None
    reason: str | None = None
    message_id: str | None = None
    caller: str = ""
    event_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """An entry of the history as it was stored. `effective` is False when it changed nothing."""

    effective: bool
    change: str
    source: str


async def record_consent(connection: HotConnection, entries: Sequence[ConsentEntry]) -> list[Recorded]:
    """Apply entries in order and keep each in the history; the connection must be in a transaction.

    It must be the last thing the transaction does: it takes locks that others wait for.
    """
    recorded: list[Recorded] = []
    await connection.execute(
        _LOCK,
        {
            "recipient": text_array([entry.recipient for entry in entries]),
            "sender": text_array([entry.sender for entry in entries]),
        },
    )
    for wave in _waves(entries):
        cursor = await connection.execute(
            _APPLY,
            {
                "id": plain_array([new_id() for _ in wave]),
                "recipient": text_array([entry.recipient for entry in wave]),
                "sender": text_array([entry.sender for entry in wave]),
                "family": plain_array([entry.family for entry in wave]),
                "change": plain_array([entry.change for entry in wave]),
                "source": plain_array([entry.source for entry in wave]),
                "keyword": text_array([entry.keyword for entry in wave]),
                "reason": text_array([entry.reason for entry in wave]),
                "message_id": plain_array([entry.message_id for entry in wave]),
                "caller": text_array([entry.caller for entry in wave]),
                "event_time": text_array(
                    [None if entry.event_time is None else entry.event_time.isoformat() for entry in wave]
                ),
            },
        )
        recorded += [Recorded(*row) for row in await cursor.fetchall()]
    return recorded


async def record_overrides(connection: HotConnection, message_ids: Sequence[str]) -> int:
    """Keep in the history which transactional messages go out in spite of an opt-out; return the news."""
    cursor = await connection.execute(
        _OVERRIDE,
        {"id": plain_array([new_id() for _ in message_ids]), "message_id": plain_array(message_ids)},
    )
    return cursor.rowcount


def count_consent(recorded: Sequence[Recorded]) -> None:
    """Count entries of the history, once they are committed."""
    for entry in recorded:
        metrics.CONSENT_EVENTS.labels(entry.change, entry.source, str(entry.effective).lower()).inc()


def _waves(entries: Sequence[ConsentEntry]) -> list[list[ConsentEntry]]:
    """Split entries so that no wave has a pair twice; their order is kept."""
    waves: list[list[ConsentEntry]] = []
    counts: dict[tuple[str, str], int] = {}
    for entry in entries:
        pair = (entry.recipient, entry.sender)
        place = counts[pair] = counts.get(pair, -1) + 1
        if place == len(waves):
            waves.append([])
        waves[place].append(entry)
    return waves
