"""Reads of consent: opt-outs that hold, and the history."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from posthouse.v1 import consent_pb2
from services.kit.enum_names import CONSENT_CHANGE, CONSENT_SOURCE, FAMILY
from services.ledger.event_batches import make_timestamp
from services.ledger.tables import consent_events, opt_outs

_OPT_OUT = (
    opt_outs.c.event_id,
    opt_outs.c.sender,
    opt_outs.c.recipient,
    opt_outs.c.channel_family,
    opt_outs.c.source,
    opt_outs.c.keyword,
    opt_outs.c.reason,
    opt_outs.c.message_id,
    opt_outs.c.create_time,
)
_EVENT = (
    consent_events.c.id,
    consent_events.c.sender,
    consent_events.c.recipient,
    consent_events.c.channel_family,
    consent_events.c.change,
    consent_events.c.source,
    consent_events.c.keyword,
    consent_events.c.reason,
    consent_events.c.message_id,
    consent_events.c.effective,
    consent_events.c.event_time,
    consent_events.c.create_time,
)


async def get_opt_out(connection: AsyncConnection, sender: str, recipient: str) -> consent_pb2.OptOut | None:
    """Return the opt-out of a contact from one of our addresses, None when there is none."""
    row = (
        await connection.execute(
            sa.select(*_OPT_OUT).where(opt_outs.c.recipient == recipient, opt_outs.c.sender == sender)
        )
    ).one_or_none()
    return None if row is None else _opt_out(row)


async def list_opt_outs(
    connection: AsyncConnection,
    *,
    sender: str = "",
    recipient: str = "",
    family: str = "",
    before: str | None = None,
    limit: int,
) -> list[tuple[str, consent_pb2.OptOut]]:
    """Return opt-outs with the ids of their events, newest first, after the event `before`.

    Empty words filter nothing. A sender alone has no index: the list is walked.
    """
    statement = sa.select(*_OPT_OUT).order_by(opt_outs.c.event_id.desc()).limit(limit)
    if sender:
        statement = statement.where(opt_outs.c.sender == sender)
    if recipient:
        statement = statement.where(opt_outs.c.recipient == recipient)
    if family:
        statement = statement.where(opt_outs.c.channel_family == family)
    if before is not None:
        statement = statement.where(opt_outs.c.event_id < before)
    return [(row.event_id, _opt_out(row)) for row in await connection.execute(statement)]


async def list_consent_events(
    connection: AsyncConnection,
    *,
    sender: str = "",
    recipient: str = "",
    change: str = "",
    before: str | None = None,
    limit: int,
) -> list[consent_pb2.ConsentEvent]:
    """Return the history, newest first, after the event `before`; empty words filter nothing."""
    statement = sa.select(*_EVENT).order_by(consent_events.c.id.desc()).limit(limit)
    if sender:
        statement = statement.where(consent_events.c.sender == sender)
    if recipient:
        statement = statement.where(consent_events.c.recipient == recipient)
    if change:
        statement = statement.where(consent_events.c.change == change)
    if before is not None:
        statement = statement.where(consent_events.c.id < before)
    return [_event(row) for row in await connection.execute(statement)]


def _opt_out(row: Any) -> consent_pb2.OptOut:
    return consent_pb2.OptOut(
        sender=row.sender,
        recipient=row.recipient,
        channel_family=FAMILY.number(row.channel_family),
        source=CONSENT_SOURCE.number(row.source),
        keyword=row.keyword or "",
        reason=row.reason or "",
        message_id=row.message_id or "",
        create_time=make_timestamp(row.create_time),
    )


def _event(row: Any) -> consent_pb2.ConsentEvent:
    return consent_pb2.ConsentEvent(
        id=row.id,
        sender=row.sender,
        recipient=row.recipient,
        channel_family=FAMILY.number(row.channel_family),
        change=CONSENT_CHANGE.number(row.change),
        source=CONSENT_SOURCE.number(row.source),
        keyword=row.keyword or "",
        reason=row.reason or "",
        message_id=row.message_id or "",
        effective=row.effective,
        event_time=make_timestamp(row.event_time),
        create_time=make_timestamp(row.create_time),
    )
