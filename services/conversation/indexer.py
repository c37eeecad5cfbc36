"""Keeps search up to date in the background, with a bounded share of this process's time."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from services.conversation import indexing
from services.kit import metrics
from services.kit.errors import UnavailableError
from services.kit.ids import time_of_id
from services.ledger.database import Database

_IDLE = 0.5
_AFTER_FAILURE = 5.0
_LATE_INTERVAL = 15.0


class SearchIndexer:
    """Indexes what is new, what was late, and conversations whose tenant or language has changed.

    `share` (above 0, at most 1) is the part of the time it may work while there is a backlog: sending and
    receiving come first, and search catches up when they rest. Any number of them may run.
    """

    def __init__(
        self,
        database: Database,
        *,
        share: float,
        settle: float = indexing.SETTLE_SECONDS,
        late: float = indexing.LATE_SECONDS,
    ) -> None:
        self._database = database
        self._share = share
        self._settle = settle
        self._late = late
        self._late_due = 0.0
        self._behind = False

    async def run(self) -> None:
        """Work until cancelled; PostgreSQL may come and go."""
        while True:
            start = time.monotonic()
            try:
                await self.run_once()
            except UnavailableError:
                await asyncio.sleep(_AFTER_FAILURE)
                continue
            worked = time.monotonic() - start
            # A pass over a few rows costs nearly as much as one over hundreds: they gather meanwhile.
            pause = worked * (1 / self._share - 1)
            await asyncio.sleep(pause if self._behind else max(pause, _IDLE))

    async def run_once(self) -> int:
        """Do one batch of each pass that is due; return the number of rows looked at."""
        newest = await self._pass(
            "newest", lambda: indexing.index_newest(self._database, settle=self._settle)
        )
        stale = await self._pass("stale", lambda: indexing.index_stale(self._database))
        late = 0
        if time.monotonic() >= self._late_due:
            late = await self._pass("late", lambda: indexing.index_late(self._database, late=self._late))
            if late < indexing.BATCH_SIZE:
                self._late_due = time.monotonic() + min(_LATE_INTERVAL, self._late)
        await self._measure_lag()
        self._behind = max(newest, late) >= indexing.BATCH_SIZE or stale > 0
        return newest + stale + late

    async def _pass(self, name: str, work: Callable[[], Awaitable[int]]) -> int:
        done = await work()
        if done:
            metrics.SEARCH_INDEXED.labels(name).inc(done)
        return done

    async def _measure_lag(self) -> None:
        async with self._database.read_primary() as connection:
            newest, reached = await indexing.newest_ids(connection)
        lag = 0.0 if newest is None or reached is None else time_of_id(newest) - time_of_id(reached)
        metrics.SEARCH_LAG.set(max(0.0, lag))
