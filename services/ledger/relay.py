"""The relay from the outbox to the broker: publishes right after a commit, and sweeps up what was missed.

Nothing here needs to succeed. What is not published, for want of a broker or because the process died,
stays in the outbox and is due a few seconds later, for the sweeper of any process.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field

from posthouse.v1 import dispatch_pb2 as dispatch_pb
from services.kit import enum_names, metrics
from services.kit.background import in_background
from services.kit.bus import BUS_ERRORS, Bus
from services.kit.cancelling import cancel_all
from services.kit.errors import UnavailableError
from services.kit.fault_points import FaultPoints
from services.kit.logs import get_logger
from services.kit.tracing import CONTEXTS, span, tracing
from services.ledger import outbox
from services.ledger.accept import Envelope
from services.ledger.database import Database
from services.ledger.dead_letters import load_dead_letters
from services.ledger.event_batches import EncodedEvent, envelope_payload, group_by_subject, rebuild
from services.ledger.trace_contexts import TraceBook

_log = get_logger(__name__)

# Announcements that may wait for the broker; beyond it they are left to the sweeper.
_QUEUE_SIZE = 2000
# Transactions whose events may travel together, and such groups under way at the same time.
_GROUP_SIZE = 64
_PUBLISHERS = 2
# Due rows that are published at the same time.
_SWEEPERS = 4
_SWEEP_INTERVAL = 0.5
_DELETE_INTERVAL = 0.1


@dataclass(frozen=True, slots=True)
class Announcement:
    """What one transaction has left to publish: events first, then the work that follows from them.

    `make_events` is called when it is published, off the path of the answer.
    """

    event_outbox_ids: Sequence[str]
    make_events: Callable[[], list[EncodedEvent]]
    envelopes: Sequence[Envelope] = field(default=())
    # Traceparents by message, of those that are traced.
    traces: Mapping[str, str] = field(default_factory=dict)


class Relay:
    """Publishes announcements of this process, and due outbox rows of every process."""

    def __init__(
        self, database: Database, bus: Bus, *, republish_after: float, faults: FaultPoints | None = None
    ) -> None:
        self._database = database
        self._bus = bus
        self._republish_after = republish_after
        self._faults = faults or FaultPoints()
        self._queue: asyncio.Queue[Announcement] = asyncio.Queue(_QUEUE_SIZE)
        self._done: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._traces: TraceBook | None = None

    def start(self) -> None:
        """Begin to publish and to sweep."""
        if tracing() is not None:
            self._traces = TraceBook(self._database)
            self._traces.start()
        self._tasks = [
            *(in_background(f"relay-publish-{n}", self._publish) for n in range(_PUBLISHERS)),
            in_background("relay-sweep", self._sweep),
            in_background("relay-delete", self._delete),
        ]

    async def close(self) -> None:
        """Publish what is queued, within two seconds, then stop; the rest is left to the sweepers."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await self._queue.join()
        await cancel_all(self._tasks)
        if self._traces is not None:
            await self._traces.close()
        with contextlib.suppress(UnavailableError):
            await self._delete_done()

    def announce(self, announcement: Announcement) -> None:
        """Publish soon; never waits and never fails."""
        if announcement.traces and self._traces is not None:
            self._traces.note(announcement.traces)
        if self._bus.connected:
            with contextlib.suppress(asyncio.QueueFull):
                self._queue.put_nowait(announcement)

    async def _publish(self) -> None:
        while True:
            group = [await self._queue.get()]
            while len(group) < _GROUP_SIZE and not self._queue.empty():
                group.append(self._queue.get_nowait())
            try:
                await self._publish_group(group)
            except BUS_ERRORS as error:
                _log.debug("publish_failed", error=repr(error))
            except Exception:  # noqa: BLE001 - the sweeper will publish it
                _log.exception("publish_failed")
            finally:
                for _ in group:
                    self._queue.task_done()

    async def _publish_group(self, group: Sequence[Announcement]) -> None:
        self._faults.reach("message.before_events_published")
        event_outbox_ids = [outbox_id for one in group for outbox_id in one.event_outbox_ids]
        batches = group_by_subject(event for one in group for event in one.make_events())
        # The broker takes what one connection sends in order: watchers see "accepted" before a dispatcher
        # can make it "sending", though nobody waits for the one before the other goes out.
        results = await asyncio.gather(
            *self._event_publications(event_outbox_ids[0], batches),
            *(
                self._publish_envelope(
                    envelope.subject,
                    envelope.outbox_id,
                    envelope.message_ids,
                    message_id=envelope.outbox_id,
                    traces=one.traces,
                )
                for one in group
                for envelope in one.envelopes
            ),
            return_exceptions=True,
        )
        if not any(results[: len(batches)]):
            self._done.extend(event_outbox_ids)
        for failure in filter(None, results):
            raise failure

    async def _publish_envelope(
        self,
        subject: str,
        outbox_id: str,
        message_ids: Sequence[str],
        *,
        message_id: str,
        traces: Mapping[str, str] | None = None,
    ) -> None:
        self._faults.reach("message.before_envelope_published")
        contexts = [traces.get(one, "") for one in message_ids] if traces else ()
        with span("publish", contexts, "producer", subject=subject) as context:
            await self._bus.publish(
                subject,
                envelope_payload(outbox_id, message_ids),
                message_id=message_id,
                headers={"traceparent": context, CONTEXTS: ",".join(contexts)} if context else None,
            )
        self._faults.reach("message.after_envelope_published")

    def _event_publications(
        self, name: str, batches: Sequence[tuple[str, bytes]]
    ) -> list[Coroutine[None, None, None]]:
        # Counted by subject: the first batch of an announcement of several transactions has all of the first
        # one's events, and stands for what is built of that one's row, whatever other batches there are.
        numbers: Counter[str] = Counter()
        publications = []
        for subject, payload in batches:
            message_id = f"{name}:{subject}:{numbers[subject]}"
            publications.append(self._bus.publish(subject, payload, message_id=message_id))
            numbers[subject] += 1
        return publications

    async def _sweep(self) -> None:
        while True:
            swept = 0
            try:
                if self._bus.connected:
                    swept = await self._sweep_once()
            except UnavailableError:
                pass
            except BUS_ERRORS as error:
                _log.debug("sweep_failed", error=repr(error))
            except Exception:  # noqa: BLE001 - the rows stay due
                _log.exception("sweep_failed")
            if not swept:
                await asyncio.sleep(_SWEEP_INTERVAL)

    async def _sweep_once(self) -> int:
        async with self._database.hot() as connection:
            rows = await outbox.sweep(connection, republish_after=self._republish_after)
        # Each row on its own: what the broker does not take must not keep back what it does.
        slots = asyncio.Semaphore(_SWEEPERS)

        async def republish(row: outbox.OutboxRow) -> None:
            async with slots:
                await self._republish(row)

        for failure in await asyncio.gather(*(republish(row) for row in rows), return_exceptions=True):
            if isinstance(failure, BaseException):
                raise failure
        return len(rows)

    async def _republish(self, row: outbox.OutboxRow) -> None:
        if row.subject == outbox.EVENT_SUBJECT:
            metrics.REPUBLISHED.labels("event").inc()
            async with self._database.hot() as connection:
                events = await rebuild(connection, row)
            batches = group_by_subject(events)
            # What the announcement had put into each of several batches nobody knows: under its ids, one
            # that is stored already would keep out events of one that is not.
            alone = len({subject for subject, _ in batches}) == len(batches)
            name = row.id if alone else f"{row.id}:{row.publish_count}"
            await asyncio.gather(*self._event_publications(name, batches))
            self._done.append(row.id)
        elif row.subject == outbox.DEAD_LETTER_SUBJECT:
            metrics.REPUBLISHED.labels("dead_letter").inc()
            async with self._database.read() as reader:
                letters = await load_dead_letters(reader, row.message_ids)
            await self._publish_dead_letters(row.id, letters)
        else:
            metrics.REPUBLISHED.labels("dispatch").inc()
            await self._publish_envelope(
                row.subject, row.id, row.message_ids, message_id=f"{row.id}:{row.publish_count}"
            )

    async def _publish_dead_letters(self, outbox_id: str, letters: list[dispatch_pb.DeadLetter]) -> None:
        for letter in letters:
            channel = enum_names.CHANNEL.word(letter.channel)
            await self._bus.publish(
                f"{outbox.DEAD_LETTER_SUBJECT}.{channel}",
                letter.SerializeToString(),
                message_id=f"{outbox_id}:{letter.message_id}",
            )
        self._done.append(outbox_id)

    async def _delete(self) -> None:
        while True:
            await asyncio.sleep(_DELETE_INTERVAL)
            with contextlib.suppress(UnavailableError):
                await self._delete_done()

    async def _delete_done(self) -> None:
        if not self._done:
            return
        self._faults.reach("message.before_outbox_delete")
        ids, self._done = self._done, []
        try:
            async with self._database.hot() as connection:
                await outbox.delete(connection, ids)
        except UnavailableError:
            self._done = ids + self._done
            raise
