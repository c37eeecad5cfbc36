"""Dead letters: reading them, and putting given-up messages back into the queue."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from posthouse.v1 import dispatch_pb2 as dispatch_pb
from services.kit import enum_names
from services.ledger.accept import DISPATCH_SUBJECT, ENVELOPE_SIZE
from services.ledger.arrays import plain_array
from services.ledger.database import HotConnection
from services.ledger.event_batches import make_timestamp
from services.ledger.outbox import EVENT_SUBJECT
from services.ledger.tables import dead_letters as table
from services.ledger.tables import messages

# The message's row is the fence: of two replays at once the second finds it waiting already. What has
# expired is left where it is; it would only be given up again.
_REPLAY = f"""
WITH chosen AS (
  SELECT m.id FROM messages m
  WHERE m.id = ANY(%(ids)s::uuid[]) AND m.state = 'failed'
    AND (m.expire_time IS NULL OR m.expire_time > now())
    AND EXISTS (SELECT FROM dead_letters d WHERE d.message_id = m.id AND d.replay_time IS NULL)
  ORDER BY m.id FOR UPDATE OF m
), moved AS (
  UPDATE messages m SET state = 'pending', event_count = m.event_count + 1,
    state_sequence = m.event_count + 1, update_time = now(), next_attempt_time = now(), error_code = NULL,
    error_message = NULL
  FROM chosen c WHERE m.id = c.id
  RETURNING m.id, m.event_count, m.conversation_id, m.channel, m.sender, m.recipient, m.priority
), marked AS (
  UPDATE dead_letters d SET replay_time = now() FROM moved m WHERE d.message_id = m.id
), logged AS (
  INSERT INTO message_events (message_id, sequence, type, create_time, detail)
  SELECT id, event_count, 'replayed', now(), 'put back into the queue by hand' FROM moved
), queued AS (
  INSERT INTO outbox (id, subject, message_ids, create_time, due_time)
  SELECT gen_random_uuid(), {DISPATCH_SUBJECT}, array_agg(id ORDER BY id), now(), now()
  FROM (
    SELECT id, channel, priority,
      (row_number() OVER (PARTITION BY channel, priority ORDER BY id) - 1) / %(envelope_size)s AS part
    FROM moved
  ) lanes GROUP BY channel, priority, part
), news AS (
  INSERT INTO outbox (id, subject, message_ids, create_time, due_time)
  SELECT %(event_outbox_id)s::uuid, %(event_subject)s, array_agg(id), now(),
    now() + make_interval(secs => %(republish_after)s)
  FROM moved HAVING count(*) > 0
)
SELECT id::text, event_count, conversation_id::text, channel, sender, recipient, now() FROM moved ORDER BY id
"""  # noqa: S608 - only constants of this project go into the text

_COLUMNS = (
    table.c.message_id,
    table.c.channel,
    table.c.provider,
    table.c.reason,
    table.c.error_code,
    table.c.error_message,
    table.c.attempt_count,
    table.c.create_time,
    table.c.replay_time,
)


def dead_letter_from_row(row: Any) -> dispatch_pb.DeadLetter:
    """Return the protobuf form of a row of _COLUMNS."""
    return dispatch_pb.DeadLetter(
        message_id=row.message_id,
        channel=enum_names.CHANNEL.number(row.channel),
        provider=row.provider or "",
        reason=row.reason,
        error_code=row.error_code or "",
        error_message=row.error_message or "",
        attempt_count=row.attempt_count,
        create_time=make_timestamp(row.create_time),
        replay_time=None if row.replay_time is None else make_timestamp(row.replay_time),
    )


async def load_dead_letters(
    connection: AsyncConnection, message_ids: Sequence[str]
) -> list[dispatch_pb.DeadLetter]:
    """Return the dead letters of messages."""
    rows = await connection.execute(sa.select(*_COLUMNS).where(table.c.message_id.in_(message_ids)))
    return [dead_letter_from_row(row) for row in rows]


class DeadLetterFilter(NamedTuple):
    """What dead letters are narrowed to; empty words and None mean any. The times are those of giving up."""

    channel: str = ""
    reason: str = ""
    provider: str = ""
    error_code: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """Return the conditions on `dead_letters`."""
        words = {
            table.c.channel: self.channel,
            table.c.reason: self.reason,
            table.c.provider: self.provider,
            table.c.error_code: self.error_code,
        }
        found: list[sa.ColumnElement[bool]] = [column == word for column, word in words.items() if word]
        if self.since is not None:
            found.append(table.c.create_time >= self.since)
        if self.until is not None:
            found.append(table.c.create_time < self.until)
        return found


async def list_dead_letters(
    connection: AsyncConnection,
    chosen: DeadLetterFilter,
    *,
    include_replayed: bool,
    before: tuple[datetime, str] | None,
    limit: int,
) -> list[dispatch_pb.DeadLetter]:
    """Return dead letters, newest first, after the position `before`."""
    query = (
        sa.select(*_COLUMNS)
        .where(*chosen.conditions())
        .order_by(table.c.create_time.desc(), table.c.message_id.desc())
        .limit(limit)
    )
    if not include_replayed:
        query = query.where(table.c.replay_time.is_(None))
    if before is not None:
        time, message_id = before
        place = sa.tuple_(
            sa.literal(time, table.c.create_time.type), sa.literal(message_id, table.c.message_id.type)
        )
        query = query.where(sa.tuple_(table.c.create_time, table.c.message_id) < place)
    return [dead_letter_from_row(row) for row in await connection.execute(query)]


async def find_replayable(connection: AsyncConnection, chosen: DeadLetterFilter, *, limit: int) -> list[str]:
    """Return the messages of dead letters that a replay would put back, the eldest first."""
    query = (
        sa.select(table.c.message_id)
        .join(messages, messages.c.id == table.c.message_id)
        .where(
            *chosen.conditions(),
            table.c.replay_time.is_(None),
            messages.c.state == "failed",
            sa.or_(messages.c.expire_time.is_(None), messages.c.expire_time > sa.func.now()),
        )
        .order_by(table.c.create_time, table.c.message_id)
        .limit(limit)
    )
    return list(await connection.scalars(query))


def create_time_of(letter: dispatch_pb.DeadLetter) -> datetime:
    """Return the time a dead letter was made, with its zone."""
    return letter.create_time.ToDatetime(UTC)


class Replayed(NamedTuple):
    """A message that waits again; `event_count` is the sequence of its `replayed` event."""

    id: str
    event_count: int
    conversation_id: str
    channel: str
    sender: str
    recipient: str
    create_time: datetime


async def replay(
    connection: HotConnection, message_ids: Sequence[str], *, event_outbox_id: str, republish_after: float
) -> list[Replayed]:
    """Put given-up messages back into their lanes and return them; doing it again changes nothing.

    Attempts are counted afresh from the replay on: see ledger/tries.
    """
    cursor = await connection.execute(
        _REPLAY,
        {
            "ids": plain_array(message_ids),
            "envelope_size": ENVELOPE_SIZE,
            "event_outbox_id": event_outbox_id,
            "event_subject": EVENT_SUBJECT,
            "republish_after": republish_after,
        },
    )
    return [Replayed._make(row) for row in await cursor.fetchall()]
