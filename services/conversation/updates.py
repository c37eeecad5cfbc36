"""What people note about a conversation: read mark, archive, workflow and metadata."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from posthouse.v1 import conversation_pb2
from services.conversation.queries import (
    CONVERSATION_COLUMNS,
    conversation_from_row,
    conversation_not_found,
    get_conversation,
)
from services.kit.errors import InvalidRequestError, Violation
from services.kit.fields import metadata_faults, read_label
from services.ledger.reads import message_not_found
from services.ledger.tables import conversations, messages

CHANGEABLE = ("workflow_type", "workflow_id", "metadata")


async def mark_read(
    connection: AsyncConnection, conversation_id: str, message_id: str | None
) -> conversation_pb2.Conversation:
    """Move the read mark forward, up to and with a message, or None: to the end.

    The mark counts inbound messages in the order of the conversation, and never moves back. Raises
    NotFoundError when there is no such conversation, or no such message in it.
    """
    read_count: sa.ColumnElement[int] = conversations.c.inbound_count
    if message_id is not None:
        place = (
            await connection.execute(
                sa.select(messages.c.message_time, messages.c.id).where(
                    messages.c.id == message_id, messages.c.conversation_id == conversation_id
                )
            )
        ).one_or_none()
        if place is None:
            await get_conversation(connection, conversation_id)
            raise message_not_found(message_id)
        read_count = (
            sa.select(sa.func.count())
            .where(
                messages.c.conversation_id == conversation_id,
                messages.c.direction == "inbound",
                sa.tuple_(messages.c.message_time, messages.c.id)
                <= sa.tuple_(
                    sa.literal(place.message_time, messages.c.message_time.type),
                    sa.literal(place.id, messages.c.id.type),
                ),
            )
            .scalar_subquery()
        )
    return await _update(
        connection,
        conversation_id,
        {"read_count": sa.func.greatest(conversations.c.read_count, read_count)},
    )


async def archive(connection: AsyncConnection, conversation_id: str) -> conversation_pb2.Conversation:
    """Archive a conversation; an archived one keeps its time."""
    archive_time = sa.func.coalesce(conversations.c.archive_time, sa.func.now())
    return await _update(connection, conversation_id, {"archive_time": archive_time})


async def unarchive(connection: AsyncConnection, conversation_id: str) -> conversation_pb2.Conversation:
    """Bring an archived conversation back; one that is not archived stays as it is."""
    return await _update(connection, conversation_id, {"archive_time": None})


async def change(
    connection: AsyncConnection, conversation_id: str, changes: Mapping[str, Any]
) -> conversation_pb2.Conversation:
    """Set the columns that read_changes has found."""
    return await _update(connection, conversation_id, changes)


def read_changes(conversation: conversation_pb2.Conversation, paths: Sequence[str]) -> dict[str, Any]:
    """Return the columns to set by the paths of an update mask (AIP-134), or raise InvalidRequestError.

    A field in the mask that is empty in the conversation is cleared; metadata is replaced as a whole.
    """
    if not paths:
        raise InvalidRequestError.field("update_mask", f"must name at least one of {', '.join(CHANGEABLE)}")
    unknown = [path for path in paths if path not in CHANGEABLE]
    if unknown:
        raise InvalidRequestError.of(
            [
                Violation("update_mask", f"{path[:64]!r} is not one of {', '.join(CHANGEABLE)}")
                for path in unknown
            ]
        )
    changes: dict[str, Any] = {}
    for path in paths:
        if path == "metadata":
            metadata = dict(conversation.metadata)
            if faults := metadata_faults("conversation.metadata", metadata):
                raise InvalidRequestError.of(faults)
            changes[path] = metadata or sa.null()
        else:
            changes[path] = read_label(f"conversation.{path}", getattr(conversation, path)) or None
    return changes


async def _update(
    connection: AsyncConnection, conversation_id: str, values: Mapping[str, Any]
) -> conversation_pb2.Conversation:
    statement = (
        sa.update(conversations)
        .where(conversations.c.id == conversation_id)
        .values(values)
        .returning(*CONVERSATION_COLUMNS)
    )
    row = (await connection.execute(statement)).one_or_none()
    if row is None:
        raise conversation_not_found(conversation_id)
    return conversation_from_row(row)
