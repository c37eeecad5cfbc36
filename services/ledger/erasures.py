"""The record of erasures, and the steps of the work that is left of one."""

from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from posthouse.v1 import privacy_service_pb2 as pb
from services.kit.fault_points import FaultPoints
from services.kit.ids import NO_ID, new_id
from services.kit.masking import mask_address
from services.ledger.arrays import plain_array
from services.ledger.database import Database, HotConnection
from services.ledger.erasing import BATCH_SIZE, cancel_messages, delete_messages, drop_conversations
from services.ledger.event_batches import make_timestamp
from services.ledger.tables import erasures

_SHOWN = tuple(column for column in erasures.c if column.name != "address")

# Domains are in lower case already; what stands before the @ is compared without case, for nobody tells
# people apart by it. That reads all e-mail conversations: there is no index on it, and no hurry.
_CONVERSATIONS = """
SELECT id::text FROM (
  SELECT id FROM conversations WHERE participant_a = %(address)s
  UNION SELECT id FROM conversations WHERE participant_b = %(address)s
) found ORDER BY id LIMIT %(limit)s
"""
_MAIL_CONVERSATIONS = """
SELECT id::text FROM conversations
WHERE channel_family = 'email' AND lower(%(address)s) IN (lower(participant_a), lower(participant_b))
ORDER BY id LIMIT %(limit)s
"""
_MESSAGES = """
SELECT id::text FROM messages WHERE conversation_id = ANY(%(ids)s::uuid[])
ORDER BY conversation_id, state = 'sending', message_time DESC LIMIT %(limit)s
"""
# A mail may have joined the conversation of another address that it answers: all mail is gone through, so
# many conversations at a time that no statement takes long, whatever the size of the ledger.
_STRAY_MAIL = """
WITH page AS (
  SELECT id, channel_family FROM conversations WHERE id > %(after)s::uuid ORDER BY id LIMIT %(page)s
)
SELECT (SELECT id::text FROM page ORDER BY id DESC LIMIT 1), ARRAY(
  SELECT m.id::text FROM page, messages m
  WHERE page.channel_family = 'email' AND m.conversation_id = page.id AND m.channel = 'email'
    AND lower(%(address)s) IN (lower(m.sender), lower(m.recipient)) LIMIT %(limit)s
)
"""
_STRAY_PAGE = 1000
_PERSON = (
    "DELETE FROM contacts WHERE address = %(address)s",
    "DELETE FROM tenant_numbers WHERE address = %(address)s",
)
_ADD = """
UPDATE erasures SET cancelled_count = cancelled_count + %(cancelled)s,
  message_count = message_count + %(messages)s, conversation_count = conversation_count + %(conversations)s,
  webhook_count = webhook_count + %(webhooks)s
WHERE id = %(id)s
"""
_END = "UPDATE erasures SET end_time = now(), address = NULL WHERE id = %(id)s AND end_time IS NULL"


class Pending(NamedTuple):
    """An erasure that is under way."""

    id: str
    address: str


async def begin(database: Database, *, address: str, reason: str, caller: str) -> tuple[pb.Erasure, bool]:
    """Return a new erasure of a canonical address, or the one under way; and whether it is new."""
    async with database.write() as connection:
        made = insert(erasures).values(
            id=new_id(),
            address=address,
            masked_address=mask_address(address),
            reason=reason,
            caller=caller,
            create_time=sa.func.now(),
        )
        created = made.on_conflict_do_nothing(index_elements=["address"]).returning(*_SHOWN)
        row = (await connection.execute(created)).one_or_none()
        if row is not None:
            return _shown(row), True
        found = sa.select(*_SHOWN).where(erasures.c.address == address)
        row = (await connection.execute(found)).one_or_none()
    # Just ended by another process: begin anew.
    return (
        (_shown(row), False)
        if row is not None
        else await begin(database, address=address, reason=reason, caller=caller)
    )


async def get(connection: AsyncConnection, erasure_id: str) -> pb.Erasure | None:
    """Return an erasure, None when there is none of this id."""
    row = (await connection.execute(sa.select(*_SHOWN).where(erasures.c.id == erasure_id))).one_or_none()
    return None if row is None else _shown(row)


async def list_erasures(connection: AsyncConnection, *, before: str | None, limit: int) -> list[pb.Erasure]:
    """Return erasures, newest first, after the one with the id `before`."""
    statement = sa.select(*_SHOWN).order_by(erasures.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(erasures.c.id < before)
    return [_shown(row) for row in await connection.execute(statement)]


async def under_way(connection: HotConnection) -> list[Pending]:
    """Return the erasures that have not ended, oldest first."""
    cursor = await connection.execute(
        "SELECT id::text, address FROM erasures WHERE end_time IS NULL ORDER BY id LIMIT 100"
    )
    return [Pending(*row) for row in await cursor.fetchall()]


async def step(connection: HotConnection, erasure: Pending, faults: FaultPoints) -> bool | None:
    """Erase one batch; return False at the end, None while all that is left is under way to a provider."""
    mail = "@" in erasure.address
    chosen = {"address": erasure.address, "limit": BATCH_SIZE}
    found = await _rows(connection, _MAIL_CONVERSATIONS if mail else _CONVERSATIONS, chosen)
    conversations = [row[0] for row in found]
    rows = await _rows(connection, _MESSAGES, {"ids": plain_array(conversations), "limit": BATCH_SIZE})
    messages = [row[0] for row in rows]
    if not messages and mail:
        messages = await _stray_mail(connection, chosen)
    if messages:
        return True if await _clear(connection, erasure, messages, faults) else None
    if conversations:
        await _drop(connection, erasure, conversations)
        return True
    async with connection.transaction():
        for statement in _PERSON:
            await connection.execute(statement, chosen)
        await connection.execute(_END, {"id": erasure.id})
    return False


async def _stray_mail(connection: HotConnection, chosen: dict[str, Any]) -> list[str]:
    """Return mails of an address in conversations of others, up to the limit; none when none is left."""
    after: str | None = NO_ID
    while after is not None:
        ((after, found),) = await _rows(
            connection, _STRAY_MAIL, {**chosen, "after": after, "page": _STRAY_PAGE}
        )
        if found:
            return list(found)
    return []


async def _clear(connection: HotConnection, erasure: Pending, ids: list[str], faults: FaultPoints) -> int:
    """Cancel what waits, in a transaction of its own so that watchers are told; then delete."""
    async with connection.transaction():
        cancelled = await cancel_messages(connection, ids, event_outbox_id=new_id())
        await _add(connection, erasure, cancelled=cancelled)
    faults.reach("message.after_erasure_cancel")
    async with connection.transaction():
        deleted = await delete_messages(connection, ids)
        await _add(connection, erasure, messages=deleted.messages, webhooks=deleted.webhooks)
    return deleted.messages


async def _drop(connection: HotConnection, erasure: Pending, ids: list[str]) -> None:
    async with connection.transaction():
        await _add(connection, erasure, conversations=await drop_conversations(connection, ids))


async def _add(connection: HotConnection, erasure: Pending, **counts: int) -> None:
    none = {"cancelled": 0, "messages": 0, "conversations": 0, "webhooks": 0}
    await connection.execute(_ADD, {**none, **counts, "id": erasure.id})


async def _rows(
    connection: HotConnection, statement: str, parameters: dict[str, Any]
) -> list[tuple[Any, ...]]:
    return await (await connection.execute(statement, parameters)).fetchall()


def _shown(row: sa.Row[Any]) -> pb.Erasure:
    def time(value: datetime | None) -> Any:
        return None if value is None else make_timestamp(value)

    return pb.Erasure(
        id=row.id,
        masked_address=row.masked_address,
        reason=row.reason,
        caller=row.caller,
        create_time=time(row.create_time),
        end_time=time(row.end_time),
        cancelled_count=row.cancelled_count,
        message_count=row.message_count,
        conversation_count=row.conversation_count,
        webhook_count=row.webhook_count,
    )
