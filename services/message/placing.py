"""Brings receipts to their messages, those too that name a message by the provider's id alone.

Such a receipt may come before the provider's answer to the send, and so before anybody knows the id. It is
parked, and placed when an attempt has that id.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from services.kit import metrics
from services.kit.errors import PosthouseError
from services.kit.ids import id_or_none
from services.ledger.database import Database
from services.ledger.parking import find_attempts, park, take_placeable, unpark
from services.ledger.receipts import AppliedReceipt, ReceiptRow
from services.ledger.webhook_logs import link_logs
from services.message.commit import GroupCommitter, Unit
from services.message.webhook_logging import bounded_key
from services.providers.base import Receipt

# Parked receipts that are looked at in one go.
_BATCH: Final = 500

# Looked up once: a callback comes as often as a message is sent.
_PARKED, _MOVED, _LATE, _REPEATED = (
    metrics.RECEIPTS.labels(result) for result in ("parked", "moved", "late", "duplicate")
)
_SKIPPED = metrics.DUPLICATES.labels("receipt")


def distinct_receipts(name: str, receipts: Sequence[Receipt], log_id: str) -> list[ReceiptRow]:
    """Return the receipts of a request as rows, each key once; what names a message of ours goes first."""
    rows: dict[str, ReceiptRow] = {}
    for receipt in receipts:
        event_key = bounded_key(receipt.event_key)
        message_id = id_or_none(receipt.message_id)
        known = rows.get(event_key)
        if known is not None and (known.message_id is not None or message_id is None):
            continue
        rows[event_key] = ReceiptRow(
            provider=name,
            event_key=event_key,
            message_id=message_id,
            # Our FAILED is for what was given up here, and has a dead letter.
            state="undelivered" if receipt.state == "failed" else receipt.state,
            attempt=receipt.attempt,
            provider_message_id=receipt.provider_message_id or None,
            provider_time=receipt.provider_time,
            error_code=receipt.error_code or None,
            detail=receipt.detail or None,
            webhook_log_id=log_id,
        )
    return list(rows.values())


async def park_unplaced(database: Database, rows: list[ReceiptRow]) -> tuple[list[ReceiptRow], int]:
    """Return the rows that can be applied now, and the number of those that were parked.

    A row that names no message of ours, or no attempt, gets those that the provider's id belongs to. Parking
    is committed here already: parked twice is parked once.
    """
    unplaced = [
        row
        for row in rows
        if row.provider_message_id is not None and (row.message_id is None or not row.attempt)
    ]
    if not unplaced:
        return rows, 0
    async with database.hot() as connection:
        ids = list(dict.fromkeys(row.provider_message_id or "" for row in unplaced))
        attempts = await find_attempts(connection, unplaced[0].provider, ids)
        for row in unplaced:
            found = attempts.get(row.provider_message_id or "")
            if found is not None and row.message_id in {None, found.message_id}:
                row.message_id = found.message_id
                row.attempt = row.attempt or found.attempt
        waiting = [row for row in unplaced if row.message_id is None]
        if waiting:
            _PARKED.inc(await park(connection, waiting))
    parked = {row.event_key for row in waiting}
    return [row for row in rows if row.event_key not in parked], len(waiting)


def count_receipts(given: int, applied: Sequence[AppliedReceipt]) -> None:
    """Count receipts by what became of them."""
    moved = sum(receipt.moved for receipt in applied)
    _MOVED.inc(moved)
    _LATE.inc(len(applied) - moved)
    _REPEATED.inc(given - len(applied))
    _SKIPPED.inc(given - len(applied))


def _told(receipts: Sequence[ReceiptRow]) -> list[tuple[str, str]]:
    return [
        (receipt.webhook_log_id, receipt.message_id)
        for receipt in receipts
        if receipt.webhook_log_id is not None and receipt.message_id is not None
    ]


class Placer:
    """Places parked receipts, every `interval` seconds. Any number of processes may."""

    def __init__(self, database: Database, committer: GroupCommitter, *, interval: float = 1.0) -> None:
        self._database = database
        self._committer = committer
        self._interval = interval

    async def run(self) -> None:
        """Place for ever; cancel to stop."""
        while True:
            try:
                looked_at = await self.place()
            except PosthouseError:
                looked_at = 0
            if looked_at < _BATCH:
                await asyncio.sleep(self._interval)

    async def place(self) -> int:
        """Look at what is due once, place what can be, and return the number looked at."""
        async with self._database.hot() as connection:
            looked_at, receipts = await take_placeable(connection, limit=_BATCH)
        if receipts:
            committed = await self._committer.submit(Unit(receipts=receipts))
            keys = {(receipt.provider, receipt.event_key) for receipt in receipts}
            applied = [news for news in committed.applied if (news.provider, news.event_key) in keys]
            count_receipts(len(receipts), applied)
            async with self._database.write() as connection:
                await link_logs(connection, _told(receipts))
            async with self._database.hot() as connection:
                await unpark(connection, receipts)
        return looked_at
