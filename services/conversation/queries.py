"""The SQL of every read of conversations; a read replica will do."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from posthouse.v1 import conversation_pb2, message_pb2
from services.conversation.filters import ConversationFilter, has_participant
from services.conversation.text_filter import having_text
from services.kit.enum_names import FAMILY
from services.kit.errors import NotFoundError
from services.kit.page_tokens import Position
from services.ledger.database import keyring_of
from services.ledger.row_mapping import MESSAGE_COLUMNS, message_from_row
from services.ledger.tables import conversations, messages

CONVERSATION_COLUMNS: tuple[sa.ColumnElement[Any], ...] = (
    conversations.c.id,
    conversations.c.channel_family,
    conversations.c.participant_a,
    conversations.c.participant_b,
    conversations.c.create_time,
    conversations.c.last_message_time,
    conversations.c.last_message_id,
    conversations.c.message_count,
    conversations.c.inbound_count,
    conversations.c.read_count,
    conversations.c.archive_time,
    conversations.c.workflow_type,
    conversations.c.workflow_id,
    conversations.c.tenant_id,
    conversations.c.language,
    conversations.c.language_confidence,
    conversations.c.metadata,
)

_NEWEST_ACTIVITY = (conversations.c.last_message_time.desc(), conversations.c.id.desc())


def conversation_from_row(row: sa.Row[Any]) -> conversation_pb2.Conversation:
    """Return the conversation of a row that has CONVERSATION_COLUMNS."""
    fields: dict[str, Any] = {
        "id": row.id,
        "channel_family": FAMILY.number(row.channel_family),
        "participants": [row.participant_a, row.participant_b],
        "create_time": row.create_time,
        "last_message_time": row.last_message_time,
        "last_message_id": row.last_message_id,
        "message_count": row.message_count,
        "unread_count": row.inbound_count - row.read_count,
        "archive_time": row.archive_time,
        "workflow_type": row.workflow_type,
        "workflow_id": row.workflow_id,
        "tenant_id": row.tenant_id,
        "language": row.language,
        "language_confidence": row.language_confidence,
        "metadata": row.metadata,
    }
    return conversation_pb2.Conversation(**fields)


async def get_conversation(
    connection: AsyncConnection, conversation_id: str
) -> conversation_pb2.Conversation:
    """Return one conversation, or raise NotFoundError."""
    statement = sa.select(*CONVERSATION_COLUMNS).where(conversations.c.id == conversation_id)
    row = (await connection.execute(statement)).one_or_none()
    if row is None:
        raise conversation_not_found(conversation_id)
    return conversation_from_row(row)


async def find_by_ids(
    connection: AsyncConnection, conversation_ids: Sequence[str]
) -> list[conversation_pb2.Conversation]:
    """Return those of the given conversations that exist, newest activity first."""
    statement = (
        sa.select(*CONVERSATION_COLUMNS)
        .where(conversations.c.id.in_(conversation_ids))
        .order_by(*_NEWEST_ACTIVITY)
    )
    return [conversation_from_row(row) for row in await connection.execute(statement)]


async def find_by_participant(
    connection: AsyncConnection, address: str, *, channel_family: str, limit: int
) -> list[conversation_pb2.Conversation]:
    """Return the conversations of a canonical address, archived ones too, newest activity first."""
    statement = (
        sa.select(*CONVERSATION_COLUMNS)
        .where(has_participant(address))
        .order_by(*_NEWEST_ACTIVITY)
        .limit(limit)
    )
    if channel_family:
        statement = statement.where(conversations.c.channel_family == channel_family)
    return [conversation_from_row(row) for row in await connection.execute(statement)]


async def list_conversations(
    connection: AsyncConnection, narrowed: ConversationFilter, *, after: Position | None, limit: int
) -> tuple[list[conversation_pb2.Conversation], Position | None]:
    """Return a page, newest activity first, and where the next one starts, None on the last.

    The order is that of conversations_last_message. Participant, tenant and workflow type have their
    own indexes; the other conditions are checked along the way.
    """
    conditions = narrowed.conditions()
    if after is not None:
        conditions.append(beyond(conversations.c.last_message_time, conversations.c.id, after))
    if narrowed.terms:
        conditions.append(
            await having_text(connection, narrowed.terms, conditions=tuple(conditions), limit=limit + 1)
        )
    statement = (
        sa.select(*CONVERSATION_COLUMNS).where(*conditions).order_by(*_NEWEST_ACTIVITY).limit(limit + 1)
    )
    rows = (await connection.execute(statement)).all()
    last = Position(rows[limit - 1].last_message_time, rows[limit - 1].id) if len(rows) > limit else None
    return [conversation_from_row(row) for row in rows[:limit]], last


async def list_conversation_messages(
    connection: AsyncConnection, conversation_id: str, *, after: Position | None, limit: int
) -> tuple[list[message_pb2.Message], Position | None]:
    """Return a page of a conversation, newest first, and where the next one starts, None on the last.

    Raises NotFoundError when there is no such conversation. The order is that of messages_conversation.
    """
    of_it = sa.select(*MESSAGE_COLUMNS).where(messages.c.conversation_id == conversation_id)
    statement = _newest(of_it, messages.c, limit)
    if after is not None:
        statement = statement.where(beyond(messages.c.message_time, messages.c.id, after))
    page, last = await _message_page(connection, statement, limit)
    if not page:
        await get_conversation(connection, conversation_id)
    return page, last


async def list_messages_of_all(
    connection: AsyncConnection, conversation_ids: Sequence[str], *, after: Position | None, limit: int
) -> tuple[list[message_pb2.Message], Position | None]:
    """Return a page of several conversations together, in the order and the shape of a single one's.

    Each is read by messages_conversation, no further than the page could reach.
    """
    ids = sa.select(conversations.c.id).where(conversations.c.id.in_(conversation_ids)).subquery("ids")
    reached = sa.select(messages.c.id, messages.c.message_time).where(messages.c.conversation_id == ids.c.id)
    if after is not None:
        reached = reached.where(beyond(messages.c.message_time, messages.c.id, after))
    each = _newest(reached, messages.c, limit).lateral("each")
    page = _newest(sa.select(each.c.id).select_from(ids.join(each, sa.true())), each.c, limit)
    statement = _newest(sa.select(*MESSAGE_COLUMNS).where(messages.c.id.in_(page)), messages.c, limit)
    return await _message_page(connection, statement, limit)


async def _message_page(
    connection: AsyncConnection, statement: sa.Select[Any], limit: int
) -> tuple[list[message_pb2.Message], Position | None]:
    rows = (await connection.execute(statement)).all()
    last = Position(rows[limit - 1].message_time, rows[limit - 1].id) if len(rows) > limit else None
    keyring = keyring_of(connection)
    return [message_from_row(row, keyring) for row in rows[:limit]], last


def _newest(statement: sa.Select[Any], columns: Any, limit: int) -> sa.Select[Any]:
    """Return a statement's newest messages: a page, and one more that tells of another."""
    return statement.order_by(columns.message_time.desc(), columns.id.desc()).limit(limit + 1)


def conversation_not_found(conversation_id: str) -> NotFoundError:
    """Return the error of a conversation id that names none."""
    return NotFoundError(f"there is no conversation {conversation_id}", reason="CONVERSATION_NOT_FOUND")


def beyond(
    time: sa.ColumnElement[Any], row_id: sa.ColumnElement[str], after: Position
) -> sa.ColumnElement[bool]:
    """Return the condition of rows behind a position, where both time and id fall."""
    return sa.tuple_(time, row_id) < sa.tuple_(
        sa.literal(after.time, time.type), sa.literal(after.id, row_id.type)
    )
