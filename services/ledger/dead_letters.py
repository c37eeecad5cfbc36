"""Dead letters: reading them, and putting given-up messages back into the queue."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from posthouse.v1 import dispatch_pb2 as dispatch_pb
from services.kit import enum_names
from services.ledger.event_batches import make_timestamp
from services.ledger.tables import dead_letters as table

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


async def list_dead_letters(
    connection: AsyncConnection,
    *,
    channel: str,
    reason: str,
    include_replayed: bool,
    before: tuple[datetime, str] | None,
    limit: int,
) -> list[dispatch_pb.DeadLetter]:
    """Return dead letters, newest first, after the position `before`; empty words filter nothing."""
    query = sa.select(*_COLUMNS).order_by(table.c.create_time.desc(), table.c.message_id.desc()).limit(limit)
    if channel:
        query = query.where(table.c.channel == channel)
    if reason:
        query = query.where(table.c.reason == reason)
    if not include_replayed:
        query = query.where(table.c.replay_time.is_(None))
    if before is not None:
        query = query.where(sa.tuple_(table.c.create_time, table.c.message_id) < sa.tuple_(*before))
    return [dead_letter_from_row(row) for row in await connection.execute(query)]


def create_time_of(letter: dispatch_pb.DeadLetter) -> datetime:
    """Return the time a dead letter was made, with its zone."""
    return letter.create_time.ToDatetime(UTC)
