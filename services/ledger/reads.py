"""Reads of messages, their events and their attempts; a read replica will do."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from posthouse.v1 import dispatch_pb2, message_pb2
from services.kit.errors import NotFoundError
from services.ledger.database import keyring_of
from services.ledger.row_mapping import (
    ATTEMPT_COLUMNS,
    EVENT_COLUMNS,
    MESSAGE_COLUMNS,
    attempt_from_row,
    event_from_row,
    message_from_row,
    open_row,
)
from services.ledger.states import RARE, SENDING
from services.ledger.tables import dispatch_attempts, message_events, messages, provider_events


async def get_message(connection: AsyncConnection, message_id: str) -> message_pb2.Message | None:
    """Return one message, None when there is none of this id.

    Raises KeyMissingError or ContentDamagedError when its content cannot be opened.
    """
    statement = sa.select(*MESSAGE_COLUMNS).where(messages.c.id == message_id)
    row = (await connection.execute(statement)).one_or_none()
    if row is None:
        return None
    keyring = keyring_of(connection)
    message = message_from_row(row, keyring)
    if message.content_error:
        # Who asks for this one alone must not take it for an empty one.
        open_row(row, keyring)
    return message


async def list_messages(
    connection: AsyncConnection,
    *,
    conversation_id: str = "",
    channel: str = "",
    state: str = "",
    direction: str = "",
    before: str | None = None,
    limit: int,
) -> list[message_pb2.Message]:
    """Return messages newest first, from the one after `before` on; empty filters mean any.

    Channel, state and direction are words ("sms"), the ids canonical UUIDs. Within a conversation the
    order is message_time, then id, as messages_conversation has it; else it is the id, whose first
    half is the time of acceptance, as the primary key has it. Failed, undelivered, cancelled and unknown
    messages are found by the event that made them so; the other filters walk the primary key.
    """
    statement = sa.select(*MESSAGE_COLUMNS).limit(limit)
    if conversation_id:
        statement = statement.where(messages.c.conversation_id == conversation_id).order_by(
            messages.c.message_time.desc(), messages.c.id.desc()
        )
    elif state in RARE:
        # Every state has its event. A literal: the index is for these types alone.
        statement = statement.join_from(
            messages,
            message_events,
            sa.and_(
                message_events.c.message_id == messages.c.id,
                message_events.c.sequence == messages.c.state_sequence,
                message_events.c.type == sa.literal_column(f"'{state}'"),
            ),
        ).order_by(message_events.c.message_id.desc())
    else:
        statement = statement.order_by(messages.c.id.desc())
    if channel:
        statement = statement.where(messages.c.channel == channel)
    if state:
        statement = statement.where(messages.c.state == state)
    if direction:
        statement = statement.where(messages.c.direction == direction)
    if before is not None and conversation_id:
        # A message's time never changes, so that its id says where the page before ended.
        last = messages.alias("last")
        last_time = sa.select(last.c.message_time).where(last.c.id == before).scalar_subquery()
        statement = statement.where(
            sa.tuple_(messages.c.message_time, messages.c.id)
            < sa.tuple_(last_time, sa.literal(before, last.c.id.type))
        )
    elif before is not None:
        first = message_events.c.message_id if state in RARE else messages.c.id
        statement = statement.where(first < before)
    keyring = keyring_of(connection)
    return [message_from_row(row, keyring) for row in await connection.execute(statement)]


async def list_message_events(
    connection: AsyncConnection, message_id: str, after_sequence: int, limit: int
) -> list[message_pb2.MessageEvent]:
    """Return a message's events after a sequence, oldest first; 0 means from the start.

    Raises NotFoundError from the start when there is no such message: every message has an event.
    """
    statement = (
        sa.select(*EVENT_COLUMNS)
        .where(message_events.c.message_id == message_id, message_events.c.sequence > after_sequence)
        .order_by(message_events.c.sequence)
        .limit(limit)
    )
    events = [event_from_row(row) for row in await connection.execute(statement)]
    if not events and after_sequence == 0:
        raise message_not_found(message_id)
    return events


async def list_attempts(connection: AsyncConnection, message_id: str) -> list[dispatch_pb2.DispatchAttempt]:
    """Return the attempts of a message, oldest first, with the one under way; else raise NotFoundError."""
    # The message first: an attempt that ends between the two statements is then in its own row.
    message = (
        await connection.execute(
            sa.select(
                messages.c.state, messages.c.attempt_count, messages.c.attempt_time, messages.c.provider
            ).where(messages.c.id == message_id)
        )
    ).one_or_none()
    if message is None:
        raise message_not_found(message_id)
    ended = await connection.execute(
        sa.select(*ATTEMPT_COLUMNS)
        .where(dispatch_attempts.c.message_id == message_id)
        .order_by(dispatch_attempts.c.number)
    )
    attempts = [attempt_from_row(row) for row in ended]
    if message.state == SENDING and all(attempt.number < message.attempt_count for attempt in attempts):
        under_way = dispatch_pb2.DispatchAttempt(
            message_id=message_id,
            number=message.attempt_count,
            provider=message.provider,
            start_time=message.attempt_time,
        )
        attempts.append(under_way)
    return attempts


async def find_by_provider_event(
    connection: AsyncConnection, keys: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], tuple[str, str]]:
    """Return message id and conversation id by (provider, event key), for keys that brought a message."""
    rows = await connection.execute(
        sa.select(
            provider_events.c.provider, provider_events.c.event_key, messages.c.id, messages.c.conversation_id
        )
        .join(messages, messages.c.id == provider_events.c.message_id)
        .where(sa.tuple_(provider_events.c.provider, provider_events.c.event_key).in_(keys))
    )
    return {(row.provider, row.event_key): (row.id, row.conversation_id) for row in rows}


def message_not_found(message_id: str) -> NotFoundError:
    """Return the error of a message id that names none."""
    return NotFoundError(f"there is no message {message_id}", reason="MESSAGE_NOT_FOUND")
