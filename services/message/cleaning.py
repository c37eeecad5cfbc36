"""Keeps the tables that only remember for a while from growing for ever."""

import asyncio
from dataclasses import fields

from services.kit import metrics
from services.kit.errors import UnavailableError
from services.kit.logs import get_logger
from services.ledger.database import Database
from services.ledger.erasing import delete_old_messages
from services.ledger.retention import Retention, delete_expired

_log = get_logger(__name__)


class Cleaner:
    """Deletes what has been kept long enough, every `interval` seconds. Any number of processes may."""

    def __init__(
        self, database: Database, retention: Retention, *, interval: float = 300.0, message_days: int = 0
    ) -> None:
        """Keep messages for `message_days`, for ever if that is 0."""
        self._database = database
        self._message_days = message_days
        self._retention = retention
        self._interval = interval

    async def run(self) -> None:
        """Clean for ever; cancel to stop."""
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.clean()
            except UnavailableError:
                continue

    async def clean(self) -> dict[str, int]:
        """Clean once and return the number of rows deleted, by table."""
        deleted = {}
        for field in fields(self._retention):
            async with self._database.hot() as connection:
                keep = getattr(self._retention, field.name)
                deleted[field.name] = await delete_expired(connection, field.name, keep)
        if self._message_days:
            async with self._database.hot() as connection:
                deleted["messages"] = await delete_old_messages(connection, days=self._message_days)
        # News of messages that never became ours, or that no attempt has ever owned up to.
        metrics.RECEIPTS.labels("unplaced").inc(deleted["parked_receipts"])
        if any(deleted.values()):
            _log.info("cleaned", **deleted)
        return deleted
