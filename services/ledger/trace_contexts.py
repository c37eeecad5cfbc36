"""Keeps which trace each message belongs to, beside its transactions, for as long as there is news of it.

Written right after the commit by who traces, and by nobody else: the hot statements know nothing of it. What
is lost with a process that dies is the connection of a few messages to their traces.
"""

import asyncio
from collections.abc import Mapping, Sequence

from services.kit.cancelling import cancel_all
from services.kit.errors import UnavailableError
from services.kit.logs import get_logger
from services.ledger.arrays import plain_array
from services.ledger.database import Database

_log = get_logger(__name__)

# Contexts that may wait to be written; beyond it they are forgotten.
_MOST_WAITING = 20_000

_WRITE = """
INSERT INTO trace_contexts (message_id, traceparent, create_time)
SELECT message_id, traceparent, now() FROM unnest(%s::uuid[], %s::text[]) AS t(message_id, traceparent)
ON CONFLICT (message_id) DO NOTHING
"""
_READ = "SELECT message_id::text, traceparent FROM trace_contexts WHERE message_id = ANY(%s::uuid[])"


async def load_contexts(database: Database, message_ids: Sequence[str]) -> dict[str, str]:
    """Return the traceparents of messages, as far as they are known; of none while the database is away."""
    if not message_ids:
        return {}
    try:
        async with database.hot() as connection:
            cursor = await connection.execute(_READ, (plain_array(message_ids),))
            return {str(row[0]): str(row[1]) for row in await cursor.fetchall()}
    except UnavailableError:
        return {}


class TraceBook:
    """Writes contexts in the background."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[str, str] = {}
        self._filled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run(), name="trace-book")

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            await cancel_all([self._task])

    def note(self, contexts: Mapping[str, str]) -> None:
        """Have traceparents written soon, by message; never waits."""
        if len(self._waiting) < _MOST_WAITING:
            self._waiting.update(contexts)
            self._filled.set()

    async def _run(self) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            contexts, self._waiting = self._waiting, {}
            try:
                async with self._database.hot() as connection:
                    await connection.execute(
                        _WRITE, (plain_array(list(contexts)), plain_array(list(contexts.values())))
                    )
            except UnavailableError:
                _log.warning("trace_contexts_lost", messages=len(contexts))
            except Exception:  # noqa: BLE001 - traces are worth no message
                _log.exception("trace_contexts_lost", messages=len(contexts))
