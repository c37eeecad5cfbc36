"""Whoever is cancelled at whatever point gives back the connection it has, in the mode it was in."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Generator
from contextlib import AbstractAsyncContextManager
from typing import Any

import psycopg.waiting
import pytest
import sqlalchemy as sa
from prometheus_client import REGISTRY

from services.ledger.database import Database
from tests.integration.ledger.rows import eventually

pytestmark = pytest.mark.integration

# More than there are, from asking for a connection to having given it back.
_POINTS = 25


class _CancelledAt:
    """Awaits a coroutine, and cancels its task as often as it comes to wait for one of these times."""

    def __init__(self, work: Coroutine[Any, Any, None], points: Collection[int]) -> None:
        self._work = work
        self._points = points

    def __await__(self) -> Generator[Any, Any, None]:
        """Hand on what the coroutine waits for, and what comes of it."""
        task = asyncio.current_task()
        assert task is not None
        waits = 0
        error: BaseException | None = None
        while True:
            try:
                waited_for = self._work.send(None) if error is None else self._work.throw(error)
            except StopIteration:
                return
            waits += 1
            if waits in self._points:
                task.cancel()
            error = None
            try:
                yield waited_for
            except BaseException as raised:  # noqa: BLE001 - it is the coroutine's
                error = raised


@pytest.fixture
async def database(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    # As in a loop that has much to do: every step of psycopg lets the others go first.
    monkeypatch.setattr(psycopg.waiting, "MAX_BUSY_TIME", 0.0)
    database = Database(
        empty_database_url, pool_size=8, timeout=30, name="cancelled", replica=empty_database_url
    )
    await database.start()
    yield database
    await database.close()


def _in_use(pool: str) -> float | None:
    return REGISTRY.get_sample_value("db_connection_pool_usage", {"pool": pool})


async def _cancelled(work: Callable[[], Coroutine[Any, Any, None]], points: Collection[int]) -> None:
    async def run() -> None:
        await _CancelledAt(work(), points)

    await asyncio.gather(asyncio.create_task(run()), return_exceptions=True)


async def _fail_in_the_middle(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(sa.text("INSERT INTO kept VALUES (1)"))
        raise ZeroDivisionError


@pytest.mark.parametrize("again", [0, 1, 2])
@pytest.mark.parametrize("way", ["read", "read_primary", "write"])
async def test_no_connection_is_lost(database: Database, way: str, again: int) -> None:
    pool = "replica" if way == "read" else "main"

    async def work() -> None:
        opened: AbstractAsyncContextManager[Any] = getattr(database, way)()
        async with opened as connection:
            await connection.execute(sa.text("SELECT pg_sleep(0.001)"))

    for point in range(1, _POINTS):
        await _cancelled(work, {point, point + again})
        assert _in_use(pool) == 0, f"cancelled at its wait {point}"
    # And those that are in the pool are what they were: what fails in a transaction has not been.
    async with database.write() as connection:
        await connection.execute(sa.text("CREATE TABLE kept (number integer)"))
    with pytest.raises(ZeroDivisionError):
        await _fail_in_the_middle(database)
    async with database.read_primary() as connection:
        assert (await connection.execute(sa.text("SELECT count(*) FROM kept"))).scalar_one() == 0


@pytest.mark.parametrize("again", [0, 1, 2])
async def test_no_hot_connection_is_lost(database: Database, again: int) -> None:
    async def work() -> None:
        async with database.hot() as connection:
            await connection.execute("SELECT pg_sleep(0.001)")

    for point in range(1, _POINTS):
        await _cancelled(work, {point, point + again})

    async def all_back() -> bool:
        return _in_use("hot") == 0

    # What was broken is made anew beside the loop.
    await eventually(all_back)
