"""The rows of subscriptions, and the log of what was posted to them."""

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from posthouse.v1 import subscription_pb2
from services.conversation.cloud_events import webhook_id
from services.kit.enum_names import EVENT_DELIVERY
from services.kit.errors import NotFoundError
from services.kit.page_tokens import Position
from services.ledger.event_batches import make_timestamp
from services.ledger.tables import event_deliveries, subscriptions

_NOW = sa.func.now()
_SHOWN = (
    subscriptions.c.id,
    subscriptions.c.url,
    subscriptions.c.event_types,
    subscriptions.c.description,
    subscriptions.c.disable_time,
    subscriptions.c.disable_reason,
    subscriptions.c.fail_time,
    subscriptions.c.create_time,
    subscriptions.c.rotate_time,
    subscriptions.c.overlap_end_time,
)
_LOGGED = (
    event_deliveries.c.id,
    event_deliveries.c.subscription_id,
    event_deliveries.c.message_id,
    event_deliveries.c.sequence,
    event_deliveries.c.event_type,
    event_deliveries.c.conversation_id,
    event_deliveries.c.event_time,
    event_deliveries.c.state,
    event_deliveries.c.attempt_count,
    event_deliveries.c.attempt_time,
    event_deliveries.c.due_time,
    event_deliveries.c.status_code,
    event_deliveries.c.error,
    event_deliveries.c.duration_ms,
    event_deliveries.c.attempts,
)


async def count(connection: AsyncConnection) -> int:
    """Return how many subscriptions there are."""
    return (await connection.execute(sa.select(sa.func.count()).select_from(subscriptions))).scalar_one()


async def insert(connection: AsyncConnection, **values: Any) -> subscription_pb2.Subscription:
    """Store a new subscription."""
    statement = sa.insert(subscriptions).values(create_time=_NOW, **values).returning(*_SHOWN)
    return _shown((await connection.execute(statement)).one())


async def get(connection: AsyncConnection, subscription_id: str) -> subscription_pb2.Subscription:
    """Return a subscription; raises NotFoundError."""
    statement = sa.select(*_SHOWN).where(subscriptions.c.id == subscription_id)
    return _found((await connection.execute(statement)).one_or_none())


async def check_known(connection: AsyncConnection, subscription_id: str) -> None:
    """Raise NotFoundError when there is neither such a subscription nor a log of one."""
    logged = sa.select(sa.literal(1)).where(event_deliveries.c.subscription_id == subscription_id).limit(1)
    if (await connection.execute(logged)).one_or_none() is None:
        await get(connection, subscription_id)


async def list_newest(
    connection: AsyncConnection, *, before: str | None, limit: int
) -> list[subscription_pb2.Subscription]:
    """Return subscriptions, newest first, after the one with the id `before`."""
    statement = sa.select(*_SHOWN).order_by(subscriptions.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(subscriptions.c.id < before)
    return [_shown(row) for row in await connection.execute(statement)]


async def change(
    connection: AsyncConnection, subscription_id: str, *, disabled: bool | None, **values: Any
) -> subscription_pb2.Subscription:
    """Change columns, and enable or disable unless that is None; raises NotFoundError."""
    table = subscriptions.c
    if disabled is True:
        values["disable_time"] = sa.func.coalesce(table.disable_time, _NOW)
        values["disable_reason"] = sa.func.coalesce(table.disable_reason, "request")
    elif disabled is False:
        # It has as long as a new one to show that it works.
        values.update(disable_time=None, disable_reason=None, fail_time=None)
    statement = (
        sa.update(subscriptions).where(table.id == subscription_id).values(**values).returning(*_SHOWN)
    )
    return _found((await connection.execute(statement)).one_or_none())


async def rotate(
    connection: AsyncConnection, subscription_id: str, *, secret: str, overlap: timedelta
) -> subscription_pb2.Subscription:
    """Store a new secret, and keep the one before for a while; raises NotFoundError."""
    values: dict[str, Any] = {"secret": secret, "rotate_time": _NOW}
    if overlap:
        values.update(old_secret=subscriptions.c.secret, overlap_end_time=_NOW + overlap)
    else:
        values.update(old_secret=None, overlap_end_time=None)
    return await change(connection, subscription_id, disabled=None, **values)


async def delete(connection: AsyncConnection, subscription_id: str) -> bool:
    """Delete a subscription, and tell whether there was one. Its log goes when it is old enough."""
    statement = sa.delete(subscriptions).where(subscriptions.c.id == subscription_id)
    return bool((await connection.execute(statement)).rowcount)


async def list_deliveries(
    connection: AsyncConnection, subscription_id: str, *, state: str, after: Position | None, limit: int
) -> tuple[list[subscription_pb2.EventDelivery], Position | None]:
    """Return a page of the log, newest event first, and where it ends if there is more."""
    table = event_deliveries.c
    statement = (
        sa.select(*_LOGGED)
        .where(table.subscription_id == subscription_id)
        .order_by(table.event_time.desc(), table.id.desc())
        .limit(limit + 1)
    )
    if state:
        statement = statement.where(table.state == state)
    if after is not None:
        place = sa.tuple_(sa.literal(after.time, table.event_time.type), sa.literal(after.id, table.id.type))
        statement = statement.where(sa.tuple_(table.event_time, table.id) < place)
    rows = (await connection.execute(statement)).all()
    last = Position(rows[limit - 1].event_time, rows[limit - 1].id) if len(rows) > limit else None
    return [_delivery(row) for row in rows[:limit]], last


def _found(row: Any) -> subscription_pb2.Subscription:
    if row is None:
        raise NotFoundError("no subscription has this id", reason="SUBSCRIPTION_NOT_FOUND")
    return _shown(row)


def _shown(row: Any) -> subscription_pb2.Subscription:
    return subscription_pb2.Subscription(
        id=row.id,
        url=row.url,
        event_types=row.event_types,
        description=row.description,
        disabled=row.disable_time is not None,
        disable_reason=row.disable_reason or "",
        disable_time=_stamp(row.disable_time),
        fail_time=_stamp(row.fail_time),
        create_time=_stamp(row.create_time),
        rotate_time=_stamp(row.rotate_time),
        overlap_end_time=_stamp(row.overlap_end_time),
    )


def _delivery(row: Any) -> subscription_pb2.EventDelivery:
    return subscription_pb2.EventDelivery(
        id=row.id,
        subscription_id=row.subscription_id,
        event_id=f"{row.message_id}.{row.sequence}",
        webhook_id=webhook_id(row.message_id, row.sequence),
        event_type=row.event_type,
        conversation_id=row.conversation_id,
        event_time=_stamp(row.event_time),
        state=EVENT_DELIVERY.number(row.state),
        attempt_count=row.attempt_count,
        attempt_time=_stamp(row.attempt_time),
        next_attempt_time=_stamp(row.due_time),
        status_code=row.status_code or 0,
        error=row.error or "",
        duration_ms=row.duration_ms or 0,
        attempts=[_attempt(*attempt) for attempt in row.attempts],
    )


def _attempt(
    end: str, status: int | None, error: str | None, duration: int
) -> subscription_pb2.EventDeliveryAttempt:
    return subscription_pb2.EventDeliveryAttempt(
        end_time=_stamp(datetime.fromisoformat(end)),
        status_code=status or 0,
        error=error or "",
        duration_ms=duration,
    )


def _stamp(time: datetime | None) -> Any:
    return None if time is None else make_timestamp(time)
