"""No statement and no wait for a lock lasts longer than POSTHOUSE_DATABASE_TIMEOUT, on any connection."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from services.kit.errors import UnavailableError
from services.ledger.database import Database

pytestmark = pytest.mark.integration

_SHOWN = "SELECT current_setting('statement_timeout'), current_setting('lock_timeout')"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, pool_size=8, timeout=47.5, name="timeouts", replica=database_url)
    await database.start()
    yield database
    await database.close()


async def test_every_connection_has_both_timeouts(database: Database) -> None:
    shown = []
    for connecting in (database.read(), database.read_primary(), database.write()):
        async with connecting as connection:
            shown.append(tuple((await connection.execute(sa.text(_SHOWN))).one()))
    session = await database.connect()
    shown.append(await (await session.execute(_SHOWN)).fetchone())
    await session.close()
    async with database.hot() as hot:
        shown.append(await (await hot.execute(_SHOWN)).fetchone())
    assert set(shown) == {("47500ms", "47500ms")}


async def test_who_waits_for_a_lock_in_vain_is_told(database: Database, database_url: str) -> None:
    hasty = Database(database_url, pool_size=8, timeout=1.5, name="hasty")
    await hasty.start()
    async with database.write() as holder:
        await holder.execute(sa.text("LOCK TABLE messages"))
        with pytest.raises(UnavailableError):
            async with asyncio.timeout(60), hasty.hot() as waiting:
                await waiting.execute("SELECT count(*) FROM messages")
    await hasty.close()
