"""Which dispatcher is alive: each holds an advisory lock, and what it claims carries the lock's key.

PostgreSQL frees the lock the moment the process dies, so its work is taken over within a second, and
never while it lives.
"""

import asyncio
import contextlib
import secrets

import psycopg

from services.kit.errors import UnavailableError
from services.kit.logs import get_logger
from services.ledger.database import Database, HotConnection
from services.ledger.outbox import OWNER_LOCK

_log = get_logger(__name__)

_CHECK_INTERVAL = 1.0
_SETTLING_IN = 1.5

_DISPATCHERS = """
SELECT count(*) FROM pg_locks
WHERE locktype = 'advisory' AND classid = %s AND objsubid = 2 AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


class Ownership:
    """Holds the lock, and takes a new one under a new key when its connection is lost."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: HotConnection | None = None
        self._held = asyncio.Event()
        self.key = 0
        # Dispatchers that live, this one among them; none can begin to work before all know of it.
        self.dispatchers = 1

    @property
    def company(self) -> bool:
        """Tell whether other dispatchers live."""
        return self.dispatchers > 1

    def holds(self, key: int) -> bool:
        """Tell whether work claimed under this key is still ours to send."""
        return self._held.is_set() and key == self.key

    async def wait_held(self) -> int:
        """Wait until the lock is held and return its key."""
        await self._held.wait()
        return self.key

    async def run(self) -> None:
        """Keep the lock for ever; cancel to let it go."""
        try:
            while True:
                try:
                    await self._keep()
                except (psycopg.Error, UnavailableError, TimeoutError):
                    if self._held.is_set():
                        _log.warning("ownership_lost", owner=self.key)
                finally:
                    self._held.clear()
                    await self._disconnect()
                await asyncio.sleep(0.2)
        finally:
            await self._disconnect()

    async def _keep(self) -> None:
        self._connection = await self._database.connect()
        key = secrets.randbelow(2**31 - 1) + 1
        cursor = await self._connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (OWNER_LOCK, key))
        row = await cursor.fetchone()
        if row is None or not row[0]:
            return
        self.key = key
        await self._look_around(self._connection)
        if self.company:
            # Until the others have looked around, too.
            await asyncio.sleep(_SETTLING_IN)
        self._held.set()
        while True:
            await asyncio.sleep(_CHECK_INTERVAL)
            async with asyncio.timeout(5):
                await self._look_around(self._connection)

    async def _look_around(self, connection: HotConnection) -> None:
        cursor = await connection.execute(_DISPATCHERS, (OWNER_LOCK,))
        row = await cursor.fetchone()
        self.dispatchers = max(1, row[0] if row is not None else 0)

    async def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                await self._connection.close()
            self._connection = None
