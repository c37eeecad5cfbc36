"""Reads the history of what has been learned of a conversation: its language and its tenant."""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from posthouse.v1 import conversation_pb2
from services.conversation.queries import beyond, get_conversation
from services.kit.page_tokens import Position
from services.ledger.tables import conversation_events

_EVENTS = conversation_events.c


async def list_changes(
    connection: AsyncConnection, conversation_id: str, *, after: Position | None, limit: int
) -> tuple[list[conversation_pb2.ConversationChange], Position | None]:
    """Return a page of a conversation's changes, newest first, and where the next starts, None on the last.

    Raises NotFoundError when there is no such conversation. A conversation has few: they are sorted as they
    are read.
    """
    statement = (
        sa.select(
            _EVENTS.id,
            _EVENTS.conversation_id,
            _EVENTS.type,
            _EVENTS.create_time,
            _EVENTS.old_value,
            _EVENTS.new_value,
            _EVENTS.confidence,
            _EVENTS.source,
            _EVENTS.message_id,
        )
        .where(_EVENTS.conversation_id == conversation_id)
        .order_by(_EVENTS.create_time.desc(), _EVENTS.id.desc())
        .limit(limit + 1)
    )
    if after is not None:
        statement = statement.where(beyond(_EVENTS.create_time, _EVENTS.id, after))
    rows = (await connection.execute(statement)).all()
    if not rows:
        await get_conversation(connection, conversation_id)
    last = Position(rows[limit - 1].create_time, rows[limit - 1].id) if len(rows) > limit else None
    return [conversation_pb2.ConversationChange(**row._asdict()) for row in rows[:limit]], last
