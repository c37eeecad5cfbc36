"""Group commit: concurrent calls of every kind share transactions of the ledger.

Nobody waits for company: a unit that finds a committer free is committed at once, and while committers
are busy the queue gathers what the next transaction takes. So batches grow with the load and an idle
system adds no delay.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg
import psycopg.errors

from services.kit import metrics
from services.kit.errors import (
    InternalError,
    InvalidRequestError,
    OverloadedError,
    PosthouseError,
    UnavailableError,
)
from services.kit.fault_points import FaultPoints
from services.kit.ids import new_id
from services.kit.logs import get_logger
from services.ledger.accept import Acceptance, Intake, accept
from services.ledger.database import Database, HotConnection
from services.ledger.opt_outs import Recorded, count_consent, record_consent, record_overrides
from services.ledger.receipts import AppliedReceipt, ReceiptRow, WebhookLog, apply_receipts, log_webhooks
from services.ledger.relay import Relay
from services.message.announce import announcement_of
from services.message.consent import consent_entries, opted_out, overriding, touches_consent
from services.message.webhook_logging import note_outcomes

_log = get_logger(__name__)

# Transactions under way at the same time: one waits for the disk while the other works.
_COMMITTERS = 2
_ATTEMPTS = 4
_RETRY_AFTER = 1.0

# Transactions that PostgreSQL has ended in favour of another; the driver's classes have no common base.
_ROLLBACKS = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)

# What one item may do to the transaction of its neighbours: a value that no column, no constraint or not
# even the wire takes.
_REFUSALS = (psycopg.DataError, psycopg.IntegrityError, UnicodeError)


@dataclass(slots=True)
class Unit:
    """What one call commits. An atomic unit is stored whole or not at all.

    Items of a unit have distinct idempotency keys and provider events.
    """

    items: Sequence[Intake] = ()
    receipts: Sequence[ReceiptRow] = ()
    logs: Sequence[WebhookLog] = ()
    atomic: bool = False
    size: int = 0

    def __post_init__(self) -> None:
        self.size = len(self.items) + len(self.receipts) + 1


@dataclass(slots=True)
class Committed:
    """What became of a unit. `refused` has the items that are not stored, and why, by id.

    Items whose recipient has opted out are among them; with a key they may be repeats all the same.
    """

    acceptances: list[Acceptance] = field(default_factory=list)
    applied: list[AppliedReceipt] = field(default_factory=list)
    refused: dict[str, PosthouseError] = field(default_factory=dict)

    def stored(self, message_id: str) -> bool:
        """Tell whether an item was stored, and not a repeat of an earlier one."""
        return any(message_id in acceptance.stored for acceptance in self.acceptances)


_Waiting = tuple[Unit, "asyncio.Future[Committed]"]


class GroupCommitter:
    """Commits units in batches that end at `batch_size`, and lets at most `queue_size` items wait."""

    def __init__(
        self,
        database: Database,
        relay: Relay,
        *,
        batch_size: int,
        queue_size: int,
        republish_after: float,
        faults: FaultPoints,
    ) -> None:
        self._database = database
        self._faults = faults
        self._relay = relay
        self._batch_size = batch_size
        self._queue_size = queue_size
        self._republish_after = republish_after
        self._queue: deque[_Waiting] = deque()
        self._depth = 0
        self._wake = asyncio.Event()
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to commit."""
        self._tasks = [asyncio.create_task(self._run(), name=f"commit-{n}") for n in range(_COMMITTERS)]

    async def close(self) -> None:
        """Commit what is queued, then stop."""
        self._closing = True
        self._wake.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def submit(self, unit: Unit) -> Committed:
        """Commit a unit and return what became of it.

        Raises OverloadedError when the queue is full, UnavailableError when the database does not answer
        (then nothing is known to be stored), InvalidRequestError when it will not take an atomic unit.
        Cancelling the wait does not cancel the commit.
        """
        if self._depth + unit.size > self._queue_size and self._depth:
            raise OverloadedError("too many messages wait to be stored", retry_after=_RETRY_AFTER)
        future: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        self._queue.append((unit, future))
        self._depth += unit.size
        metrics.COMMIT_QUEUE.set(self._depth)
        self._wake.set()
        return await future

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            batch = self._take()
            if not batch:
                if self._closing:
                    return
                self._wake.clear()
                continue
            try:
                await self._commit(batch)
            except Exception:  # noqa: BLE001 - nothing may end a committer, or leave a waiter waiting
                _log.exception("commit_failed")
                _fail(batch, InternalError())

    def _take(self) -> list[_Waiting]:
        """Take units up to the batch size; one whose keys another unit of the batch has stays behind."""
        batch: list[_Waiting] = []
        size = 0
        keys: set[tuple[str, str]] = set()
        put_back: list[_Waiting] = []
        while self._queue and size < self._batch_size:
            unit, future = self._queue.popleft()
            own = {_key(item) for item in unit.items if item.draft.request_id or item.draft.event_key}
            if own & keys:
                put_back.append((unit, future))
                break
            keys |= own
            batch.append((unit, future))
            size += unit.size
        self._queue.extendleft(reversed(put_back))
        self._depth -= size
        metrics.COMMIT_QUEUE.set(self._depth)
        return batch

    async def _commit(self, batch: list[_Waiting]) -> None:
        units = [unit for unit, _ in batch]
        metrics.COMMIT_BATCH.observe(sum(unit.size - 1 for unit in units))
        try:
            committed = await self._transact(units)
        except _REFUSALS as error:
            await self._isolate(batch, error)
        except PosthouseError as error:
            _fail(batch, error)
        else:
            for _, future in batch:
                if not future.done():
                    future.set_result(committed)

    async def _isolate(self, batch: list[_Waiting], error: Exception) -> None:
        """Find what the database will not take: unit by unit, then item by item where a unit may be split."""
        if len(batch) > 1:
            for waiting in batch:
                await self._commit([waiting])
            return
        unit, future = batch[0]
        _log.error("unit_refused_by_database", error=type(error).__name__, items=len(unit.items))
        if unit.atomic or len(unit.items) <= 1:
            _fail(batch, InvalidRequestError.field("body", "cannot be stored"))
            return
        result = Committed()
        for item in unit.items:
            try:
                one = await self._transact([Unit(items=[item])])
            except PosthouseError as refusal:
                result.refused[item.id] = refusal
            except _REFUSALS:
                result.refused[item.id] = InvalidRequestError.field("body", "cannot be stored")
            except Exception:  # noqa: BLE001 - what is stored of its neighbours must be told
                _log.exception("commit_failed")
                result.refused[item.id] = InternalError()
            else:
                result.acceptances.extend(one.acceptances)
                result.refused.update(one.refused)
        if not future.done():
            future.set_result(result)

    async def _transact(self, units: list[Unit]) -> Committed:
        items = [item for unit in units for item in unit.items]
        receipts = [receipt for unit in units for receipt in unit.receipts]
        logs = [log for unit in units for log in unit.logs]
        async with self._database.hot() as connection:
            for attempt in range(_ATTEMPTS):
                with contextlib.suppress(*_ROLLBACKS):
                    return await self._once(connection, items, receipts, logs)
                _log.info("commit_repeated", attempt=attempt + 1)
        raise UnavailableError("the database is too busy", retry_after=_RETRY_AFTER)

    async def _once(
        self,
        connection: HotConnection,
        items: list[Intake],
        receipts: list[ReceiptRow],
        logs: list[WebhookLog],
    ) -> Committed:
        committed = Committed()
        event_ids: list[str] = []
        recorded: list[Recorded] = []
        consent = touches_consent(items)
        self._faults.reach("message.before_transaction")
        async with contextlib.AsyncExitStack() as transaction:
            # A lone statement is a transaction of its own; several go down the line without waiting.
            if receipts or logs or consent:
                await transaction.enter_async_context(connection.pipeline())
                await transaction.enter_async_context(connection.transaction())
            if items:
                acceptance = await accept(connection, items, republish_after=self._republish_after)
                committed.acceptances.append(acceptance)
                committed.refused.update((message_id, opted_out()) for message_id in acceptance.barred)
                event_ids.append(acceptance.event_outbox_id)
                self._faults.reach("message.after_accept_statement")
            for wave in _waves(receipts):
                event_ids.append(new_id())
                committed.applied += await apply_receipts(
                    connection, wave, event_outbox_id=event_ids[-1], republish_after=self._republish_after
                )
                self._faults.reach("message.after_receipts_statement")
            if logs:
                note_outcomes(logs, items, receipts, committed.acceptances, committed.applied)
                await log_webhooks(connection, logs)
                self._faults.reach("message.after_webhook_log")
            if consent and (overrides := overriding(items, committed.acceptances)):
                await record_overrides(connection, overrides)
                self._faults.reach("message.after_override_statement")
            if entries := consent_entries(items if consent else (), committed.acceptances, committed.applied):
                recorded = await record_consent(connection, entries)
                self._faults.reach("message.after_consent_statement")
        count_consent(recorded)
        self._faults.reach("message.after_commit")
        self._relay.announce(announcement_of(event_ids, items, committed.acceptances, committed.applied))
        return committed


def _key(item: Intake) -> tuple[str, str]:
    draft = item.draft
    return (
        (f"send {item.caller}", draft.request_id)
        if draft.request_id
        else (f"event {draft.source}", draft.event_key or "")
    )


def _waves(receipts: Sequence[ReceiptRow]) -> list[list[ReceiptRow]]:
    """Split receipts so that none names a message or carries a key twice; order per message is kept."""
    if len({r.message_id for r in receipts}) == len({r.event_key for r in receipts}) == len(receipts):
        return [list(receipts)] if receipts else []
    waves: list[list[ReceiptRow]] = []
    seen: list[set[tuple[str, str]]] = []
    for receipt in receipts:
        marks = {(receipt.provider, receipt.event_key), ("message", receipt.message_id or receipt.event_key)}
        # After the last wave that has any of its marks, so that order per message is kept.
        place = next((n + 1 for n in range(len(waves) - 1, -1, -1) if marks & seen[n]), 0)
        if place == len(waves):
            waves.append([])
            seen.append(set())
        waves[place].append(receipt)
        seen[place] |= marks
    return waves


def _fail(batch: list[_Waiting], error: PosthouseError) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
