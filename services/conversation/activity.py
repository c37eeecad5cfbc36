"""Counts the conversations that are active, for the metrics."""

import asyncio
import contextlib
import time
from typing import Final

import sqlalchemy as sa

from services.kit import metrics
from services.kit.errors import UnavailableError
from services.ledger.database import Database

# Seconds between two counts; counting takes at most a hundredth of the time.
_INTERVAL: Final = 30.0
_SHARE: Final = 100.0

_COUNT = sa.text("SELECT count(*) FROM conversations WHERE last_message_time > now() - interval '24 hours'")


async def count_active(database: Database) -> int:
    """Return the number of conversations with a message within the last 24 hours."""
    async with database.read() as connection:
        return int((await connection.execute(_COUNT)).scalar_one())


async def watch_activity(database: Database, *, interval: float = _INTERVAL) -> None:
    """Keep the gauge true until cancelled; PostgreSQL may come and go."""
    while True:
        start = time.monotonic()
        with contextlib.suppress(UnavailableError):
            metrics.CONVERSATIONS_ACTIVE.set(await count_active(database))
        await asyncio.sleep(max(interval, _SHARE * (time.monotonic() - start)))
