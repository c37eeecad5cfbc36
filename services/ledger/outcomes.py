"""The transaction that records how attempts ended: attempt, state, event, retry, dead letter, outbox."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from services.kit.ids import new_id
from services.ledger.accept import dispatch_subject
from services.ledger.arrays import plain_array, plain_column, storable, text_column
from services.ledger.burying import burying
from services.ledger.database import HotConnection
from services.ledger.legal_moves import LEGAL_MOVES
from services.ledger.outbox import DEAD_LETTER_SUBJECT, EVENT_SUBJECT
from services.ledger.statements import HotStatement

_DEAD = """SELECT id, channel, provider, dead_reason, error_code, error_message, attempt_count, now()
  FROM moved WHERE dead_reason IS NOT NULL AND moved"""

# A receipt may have overtaken the outcome, and another dispatcher may have taken the message over: the
# attempt and an event are recorded in any case, the state moves only where that is legal for this attempt.
# Of a message that has been erased nothing is.
# What moves nothing is an event of type `receipt`, as it is with receipts: any other would name a state.
# The UPDATE returns all that the steps after it need: a plan made once joins its parts row by row.
_SETTLE = HotStatement(f"""
WITH input AS (
  SELECT * FROM unnest(
    %(id)s::uuid[], %(attempt)s::smallint[], %(state)s::text[], %(outcome)s::text[], %(event)s::text[],
    %(provider)s::text[], %(provider_message_id)s::text[], %(error_code)s::text[], %(error_message)s::text[],
    %(start_time)s::timestamptz[], %(route_reason)s::text[], %(delay)s::float8[], %(dead_reason)s::text[],
    %(retry_id)s::uuid[], %(retry_subject)s::text[]
  ) AS t(
    id, attempt, state, outcome, event, provider, provider_message_id, error_code, error_message, start_time,
    route_reason, delay, dead_reason, retry_id, retry_subject
  ) ORDER BY id
), moved AS (
  UPDATE messages m SET
    event_count = m.event_count + 1,
    state = CASE WHEN m.attempt_count = i.attempt
      AND m.state || '>' || i.state = ANY({LEGAL_MOVES}) THEN i.state ELSE m.state END,
    state_sequence = CASE WHEN m.attempt_count = i.attempt
      AND m.state || '>' || i.state = ANY({LEGAL_MOVES}) THEN m.event_count + 1 ELSE m.state_sequence END,
    update_time = now(),
    next_attempt_time = CASE WHEN m.attempt_count = i.attempt
      AND m.state || '>' || i.state = ANY({LEGAL_MOVES}) THEN
      CASE WHEN i.state = 'pending' THEN now() + make_interval(secs => i.delay) END
      ELSE m.next_attempt_time END,
    provider = CASE WHEN m.attempt_count = i.attempt THEN coalesce(i.provider, m.provider)
      ELSE m.provider END,
    provider_message_id = CASE WHEN m.attempt_count = i.attempt
      THEN coalesce(i.provider_message_id, m.provider_message_id) ELSE m.provider_message_id END,
    error_code = CASE WHEN m.attempt_count = i.attempt
      AND m.state || '>' || i.state = ANY({LEGAL_MOVES}) THEN i.error_code ELSE m.error_code END,
    error_message = CASE WHEN m.attempt_count = i.attempt
      AND m.state || '>' || i.state = ANY({LEGAL_MOVES}) THEN i.error_message ELSE m.error_message END
  FROM input i WHERE m.id = i.id
  RETURNING m.id, m.event_count, m.state, m.state_sequence = m.event_count AS moved, m.channel,
    m.attempt_count, i.attempt, i.state AS target, i.event, i.provider, i.error_code, i.error_message,
    i.delay, i.dead_reason, i.retry_id, i.retry_subject, i.outcome, i.start_time, i.route_reason,
    i.provider_message_id
), tried AS (
  INSERT INTO dispatch_attempts AS a (
    message_id, number, provider, outcome, start_time, end_time, provider_message_id, error_code,
    error_message, route_reason
  )
  SELECT id, attempt, provider, outcome, start_time, now(), provider_message_id, error_code, error_message,
    route_reason
  FROM moved WHERE outcome IS NOT NULL
  ON CONFLICT (message_id, number) DO UPDATE SET outcome = excluded.outcome, end_time = excluded.end_time,
    provider = excluded.provider, route_reason = coalesce(a.route_reason, excluded.route_reason),
    provider_message_id = excluded.provider_message_id, error_code = excluded.error_code,
    error_message = excluded.error_message
  WHERE a.outcome = 'unknown'
), logged AS (
  INSERT INTO message_events (
    message_id, sequence, type, create_time, attempt_number, provider, error_code, detail
  )
  SELECT id, event_count, CASE WHEN moved THEN event ELSE 'receipt' END, now(), attempt, provider, error_code,
    CASE WHEN moved THEN error_message ELSE concat_ws(' ', error_message, 'reported', target) END
  FROM moved
), done AS (
  DELETE FROM outbox WHERE id = ANY(%(settled)s::uuid[]) AND owner = %(owner)s
), again AS (
  INSERT INTO outbox (id, subject, message_ids, create_time, due_time)
  SELECT retry_id, min(retry_subject), array_agg(id), now(), now() + make_interval(secs => min(delay))
  FROM moved WHERE retry_id IS NOT NULL AND moved GROUP BY retry_id
), {burying(_DEAD)}
SELECT id::text, event_count, state, moved, now() FROM moved
""")


@dataclass(slots=True)
class Settlement:
    """How one attempt ended, and what follows.

    `state` is where the message goes; `outcome` is the attempt's (None: no attempt was made); `delay` is
    the seconds until the retry, or until the provider is asked when the outcome is unknown; `dead_reason`
    is set when the message is given up.
    """

    id: str
    attempt: int
    channel: str
    priority: str
    state: str
    outcome: str | None
    event: str
    start_time: datetime
    provider: str | None = None
    provider_message_id: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    route_reason: str | None = None
    delay: float | None = None
    dead_reason: str | None = None


class Settled(NamedTuple):
    """What became of one message: the sequence of its event, its state now, whether it moved there now."""

    id: str
    sequence: int
    state: str
    moved: bool
    create_time: datetime


async def settle(
    connection: HotConnection,
    settlements: Sequence[Settlement],
    *,
    settled_outbox_ids: Sequence[str],
    owner: int,
    event_outbox_id: str,
    republish_after: float,
) -> list[Settled]:
    """Record outcomes and close the envelopes they belong to, in one transaction.

    An envelope that another dispatcher has taken over meanwhile is left to it.
    """
    retry_ids, retry_subjects = _plan_retries(settlements)
    parameters = {
        "id": plain_column([s.id for s in settlements]),
        "attempt": plain_column([s.attempt for s in settlements]),
        "state": plain_column([s.state for s in settlements]),
        "outcome": plain_column([s.outcome for s in settlements]),
        "event": plain_column([s.event for s in settlements]),
        "provider": text_column([s.provider for s in settlements]),
        "provider_message_id": text_column([storable(s.provider_message_id) for s in settlements]),
        "error_code": text_column([storable(s.error_code) for s in settlements]),
        "error_message": text_column([storable(s.error_message) for s in settlements]),
        "start_time": text_column(_iso_texts(s.start_time for s in settlements)),
        "route_reason": text_column([s.route_reason for s in settlements]),
        "delay": plain_column([s.delay for s in settlements]),
        "dead_reason": plain_column([s.dead_reason for s in settlements]),
        "retry_id": plain_column(retry_ids),
        "retry_subject": plain_column(retry_subjects),
        "settled": plain_array(settled_outbox_ids),
        "owner": owner,
        "dead_outbox_id": new_id(),
        "dead_subject": DEAD_LETTER_SUBJECT,
        "event_outbox_id": event_outbox_id,
        "event_subject": EVENT_SUBJECT,
        "republish_after": republish_after,
    }
    cursor = await _SETTLE.execute(connection, parameters)
    return [Settled._make(row) for row in await cursor.fetchall()]


def _iso_texts(times: Iterable[datetime]) -> list[str]:
    """Return times as text; those of one claim are the same."""
    texts: list[str] = []
    last: datetime | None = None
    text = ""
    for time in times:
        if time != last:
            last, text = time, time.isoformat()
        texts.append(text)
    return texts


def _plan_retries(settlements: Sequence[Settlement]) -> tuple[list[str | None], list[str | None]]:
    """Assign what is to be retried to new outbox rows: one per lane and tenth of a second."""
    ids: list[str | None] = []
    subjects: list[str | None] = []
    rows: dict[tuple[str, int], str] = {}
    for settlement in settlements:
        if settlement.delay is None:
            ids.append(None)
            subjects.append(None)
            continue
        # What is urgent stays urgent.
        retry = "retry_high" if settlement.priority == "high" else "retry"
        lane = "inquiry" if settlement.state == "unknown" else retry
        subject = dispatch_subject(settlement.channel, lane)
        key = (subject, int(settlement.delay * 10))
        ids.append(rows.setdefault(key, new_id()))
        subjects.append(subject)
    return ids, subjects
