"""Counts of messages, delivery and response times."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from posthouse.v1 import conversation_service_pb2 as pb
from services.conversation.queries import get_conversation
from services.kit.fields import read_range
from services.kit.ids import first_id_at, parse_id
from services.ledger.database import Database
from services.ledger.tables import messages

# Counting over all conversations reads every message of the window: its result is kept for so long.
_KEPT_SECONDS: Final = 60.0
_KEPT_WINDOWS: Final = 32

# A message's time is not after its acceptance, whose time is in its id; clocks may differ by so much.
_CLOCK_SLACK: Final = timedelta(hours=1)
# The times in ids begin in 1970; what is asked for may begin with the calendar.
_FIRST: Final = datetime(1970, 1, 2, tzinfo=UTC)

_DELIVERED: Final = ("delivered", "read")
_LEFT: Final = ("sent", "undelivered", *_DELIVERED)


class Window(NamedTuple):
    """What to count: one conversation or, when empty, all; from a time until before another."""

    conversation_id: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """Return the conditions on `messages`."""
        found: list[sa.ColumnElement[bool]] = []
        if self.conversation_id:
            found.append(messages.c.conversation_id == self.conversation_id)
        if self.since is not None:
            found.append(messages.c.message_time >= self.since)
            if not self.conversation_id:
                # The primary key is the only index over all messages that is in order of time.
                found.append(messages.c.id >= first_id_at(max(self.since, _FIRST) - _CLOCK_SLACK))
        if self.until is not None:
            found.append(messages.c.message_time < self.until)
        return found


def read_window(request: pb.GetConversationStatsRequest) -> Window:
    """Return what a request asks to count, or raise InvalidRequestError naming the field."""
    return Window(
        parse_id("conversation_id", request.conversation_id) if request.conversation_id else "",
        *read_range(request),
    )


class Statistics:
    """Answers for windows; over all conversations they may be a minute old, and are counted one at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: dict[Window, tuple[float, pb.GetConversationStatsResponse]] = {}
        self._counting = asyncio.Lock()

    async def get(self, window: Window) -> pb.GetConversationStatsResponse:
        """Return the counts, or raise NotFoundError when there is no such conversation."""
        if window.conversation_id:
            async with self._database.read() as connection:
                await get_conversation(connection, window.conversation_id)
                return await count(connection, window)
        async with self._counting:
            kept = self._kept.get(window)
            if kept is None or kept[0] < time.monotonic():
                async with self._database.read() as connection:
                    counted = await count(connection, window)
                if len(self._kept) >= _KEPT_WINDOWS:
                    self._kept.pop(min(self._kept, key=lambda known: self._kept[known][0]))
                kept = self._kept[window] = (time.monotonic() + _KEPT_SECONDS, counted)
            return kept[1]


async def count(connection: AsyncConnection, window: Window) -> pb.GetConversationStatsResponse:
    """Return the counts of a window as they are now."""
    conditions = window.conditions()
    row = messages.c
    counts = (
        sa.select(row.direction, row.state, row.channel, sa.func.count().label("messages"))
        .where(*conditions)
        .group_by(row.direction, row.state, row.channel)
    )
    response = pb.GetConversationStatsResponse()
    delivered = left = 0
    for found in await connection.execute(counts):
        response.messages_by_direction[found.direction] += found.messages
        response.messages_by_state[found.state] += found.messages
        response.messages_by_channel[found.channel] += found.messages
        if found.direction == "outbound":
            delivered += found.messages if found.state in _DELIVERED else 0
            left += found.messages if found.state in _LEFT else 0
    response.delivery_rate = delivered / left if left else 0.0
    times = (await connection.execute(_response_times(conditions))).one()
    response.active_conversation_count = times.active
    response.mean_response_seconds = times.mean_response or 0.0
    response.median_response_seconds = times.median_response or 0.0
    response.mean_answer_seconds = times.mean_answer or 0.0
    response.median_answer_seconds = times.median_answer or 0.0
    return response


def _response_times(conditions: list[sa.ColumnElement[bool]]) -> sa.Select[Any]:
    row = messages.c
    order = (row.message_time.desc(), row.id.desc())

    def before(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        return sa.func.lead(column).over(partition_by=row.conversation_id, order_by=order)

    turns = (
        sa.select(
            row.conversation_id,
            row.direction,
            sa.extract("epoch", row.message_time - before(row.message_time)).label("seconds"),
            before(row.direction).label("before"),
        )
        .where(*conditions)
        .subquery()
    ).c
    response = sa.and_(turns.direction == "inbound", turns.before == "outbound")
    answer = sa.and_(turns.direction == "outbound", turns.before == "inbound")
    median = sa.func.percentile_cont(0.5).within_group(turns.seconds)
    return sa.select(
        sa.func.count(turns.conversation_id.distinct()).label("active"),
        sa.func.avg(turns.seconds).filter(response).label("mean_response"),
        median.filter(response).label("median_response"),
        sa.func.avg(turns.seconds).filter(answer).label("mean_answer"),
        median.filter(answer).label("median_answer"),
    )
