"""How much waits in the outbox and for how long, for the metrics and for readiness."""

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.kit import metrics
from services.kit.errors import UnavailableError
from services.ledger.database import Database

# Seconds between two looks; looking takes at most a twentieth of the time.
_INTERVAL: Final = 5.0
_SHARE: Final = 20.0
# Seconds between two counts of what is far off, which may be most of the outbox.
_FAR_INTERVAL: Final = 60.0

QUEUES: Final = ("dispatch", "sending", "later", "inquiry", "events", "dead_letters")

# dispatch: due and claimed by nobody. sending: claimed. later: scheduled, or put off until a retry.
# What is published right after its commit is overdue only once the sweeper has had to step in. Each sweep
# moves the due time on: those moves are taken off again.
_MEASURE = """
SELECT queue, count(*) AS row_count, coalesce(sum(coalesce(cardinality(message_ids), 1)), 0) AS depth,
  coalesce(extract(epoch FROM now() - min(since) FILTER (WHERE overdue)), 0)::float8 AS age
FROM (
  SELECT message_ids,
    CASE WHEN subject LIKE 'posthouse.event.%' THEN 'events'
      WHEN subject LIKE 'posthouse.deadletter%' THEN 'dead_letters'
      WHEN subject LIKE '%.inquiry' THEN 'inquiry'
      WHEN owner > 0 THEN 'sending'
      WHEN publish_count = 0 AND due_time > now() + make_interval(secs => :republish_after) THEN 'later'
      ELSE 'dispatch' END AS queue,
    coalesce(owner, 0) = 0 AND (due_time <= now() OR publish_count > 0) AS overdue,
    CASE WHEN publish_count = 0 THEN due_time ELSE greatest(create_time, due_time - make_interval(
      secs => :republish_after * (least(publish_count, 12) * (least(publish_count, 12) + 1) / 2
        + 12 * greatest(publish_count - 12, 0)))) END AS since
  FROM ({part}) AS part
) AS rows GROUP BY queue
"""
_COLUMNS = "SELECT subject, message_ids, create_time, due_time, publish_count, owner FROM outbox"
_NEAR = sa.text(
    _MEASURE.format(
        part=f"{_COLUMNS} WHERE due_time <= :until UNION ALL {_COLUMNS} WHERE owner > 0 AND due_time > :until"
    )
)
_FAR = sa.text(_MEASURE.format(part=f"{_COLUMNS} WHERE due_time > :until AND (owner IS NULL OR owner = 0)"))
# The sweeper moves a due time on by twelve times as much at most: what is due later was scheduled or put off.
_UNTIL = sa.text("SELECT now() + make_interval(secs => :republish_after * 12 + :interval)")


@dataclass(frozen=True, slots=True)
class Far:
    """Messages by queue that were due after a time when they were counted."""

    depths: Mapping[str, int]
    until: datetime


@dataclass(frozen=True, slots=True)
class Measured:
    """Messages that wait, by queue, and the seconds the oldest overdue row has waited; 0 when none is."""

    depths: Mapping[str, int]
    age: float


async def measure(database: Database, *, republish_after: float, far: Far | None = None) -> Measured:
    """Look at the outbox once, but for what is `far` off, if that is counted; raises UnavailableError."""
    far = far or await count_far(database, republish_after=republish_after)
    async with database.read_primary() as connection:
        rows = await _look(connection, _NEAR, republish_after, far.until)
    depths = {queue: far.depths.get(queue, 0) for queue in QUEUES}
    for row in rows:
        depths[row.queue] += int(row.depth)
    return Measured(depths, max((row.age for row in rows), default=0.0))


async def count_far(database: Database, *, republish_after: float) -> Far:
    """Count what is not due until long after the next count; raises UnavailableError."""
    async with database.read_primary() as connection:
        parameters = {"republish_after": republish_after, "interval": _FAR_INTERVAL}
        until = (await connection.execute(_UNTIL, parameters)).scalar_one()
        rows = await _look(connection, _FAR, republish_after, until)
    return Far({row.queue: int(row.depth) for row in rows}, until)


async def _look(
    connection: AsyncConnection, statement: sa.TextClause, republish_after: float, until: datetime
) -> Sequence[Any]:
    parameters = {"republish_after": republish_after, "until": until}
    return (await connection.execute(statement, parameters)).all()


class Backlog:
    """Measures the outbox every few seconds. `age` is what was last seen, in seconds."""

    def __init__(self, database: Database, *, republish_after: float, interval: float = _INTERVAL) -> None:
        self._database = database
        self._republish_after = republish_after
        self._interval = interval
        self.age = 0.0
        self._far: Far | None = None
        self._far_time = -math.inf

    async def moves(self, max_age: float) -> bool:
        """Tell whether nothing has waited for longer than this; never waits."""
        return self.age <= max_age

    async def run(self) -> None:
        """Measure until cancelled; PostgreSQL may come and go."""
        while True:
            start = time.monotonic()
            try:
                if start - self._far_time >= _FAR_INTERVAL:
                    self._far = await count_far(self._database, republish_after=self._republish_after)
                    self._far_time = start
                measured = await measure(self._database, republish_after=self._republish_after, far=self._far)
            except UnavailableError:
                pass
            else:
                self.age = measured.age
                metrics.OUTBOX_AGE.set(measured.age)
                for queue, depth in measured.depths.items():
                    metrics.QUEUE_DEPTH.labels(queue).set(depth)
            await asyncio.sleep(max(self._interval, _SHARE * (time.monotonic() - start)))
