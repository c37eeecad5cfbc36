"""The log of events as this process reads it: one consumer of EVENTS, fanned out in memory."""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Sequence
from typing import Final

from google.protobuf.message import DecodeError

from posthouse.v1 import event_pb2 as event_pb
from services.conversation.ordering import STEP, EventKey, Ordering, Placed
from services.kit import metrics
from services.kit.attendance import Attendance
from services.kit.bus import BUS_ERRORS, Bus
from services.kit.errors import UnavailableError
from services.kit.fanout import Entry, Fanout
from services.kit.logs import get_logger
from services.kit.positions import Position
from services.kit.stream_log import LogState, Stored, StreamLog, TailLostError
from services.ledger.database import Database
from services.ledger.event_batches import load_events

_log = get_logger(__name__)

STREAM: Final = "EVENTS"

# Subjects whose events are about a message or a conversation; those of providers are for operators.
_WATCHED = ("posthouse.event.message.", "posthouse.event.conversation.")

# Messages of the stream read from before the place asked for, to know what was seen before it.
_CONTEXT = 500
# Messages of the stream in a page.
_PAGE = 1000
_RETRY = 0.25
# Seconds a new watcher waits for a feed that has not found the broker yet.
_PATIENCE = 5.0
# Seconds the ledger may take to give events that the log has not yet, and until it is asked again.
_LOOKUP = 30.0
_LEDGER_RETRY = 1.0
# Seconds the feed goes on reading when nobody watches any more.
_LINGER = 60.0

EventEntry = Entry[event_pb.Event]


class EventFeed:
    """Reads the stream while somebody watches, over outages of the broker."""

    def __init__(self, bus: Bus, database: Database, *, ring: int, backlog: int) -> None:
        self._bus = bus
        self._database = database
        self._log = StreamLog(bus, STREAM)
        self._ordering = Ordering()
        self._ready = asyncio.Event()
        # Watchers enter and leave; without any there is nothing to read for.
        self.attendance = Attendance(self._run, self._rest, linger=_LINGER)
        self.fanout: Fanout[event_pb.Event] = Fanout(ring=ring, backlog=backlog)
        self.closing = False

    async def close(self) -> None:
        """Stop reading."""
        await self.attendance.close()

    def end_watchers(self) -> None:
        """Have every watcher told to come back, to another process or later."""
        self.closing = True
        for subscription in self.fanout.subscriptions():
            subscription.wake()

    async def head(self) -> Position:
        """Return how far the log was read, or raise UnavailableError while the broker was not found."""
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._ready.wait()
        except TimeoutError:
            raise _away() from None
        assert self.fanout.head is not None  # noqa: S101 - ready means that it was read
        return self.fanout.head

    async def state(self) -> LogState:
        """Return what the log holds now, or raise UnavailableError."""
        try:
            return await self._log.state()
        except BUS_ERRORS:
            raise _away() from None

    async def page(
        self, after: Position, ordering: Ordering | None
    ) -> tuple[list[EventEntry], Position, Ordering]:
        """Return what follows a position of the current log, how far that goes, and what was seen so far.

        It is for what the ring has no longer; give the third value back for the next page. A page may be
        empty although there is more: then it goes further. Raises UnavailableError.
        """
        first = after.sequence + 1 if ordering else max(after.sequence - _CONTEXT, 1)
        ordering = ordering or Ordering()
        try:
            stored = await self._log.page(first, _PAGE)
        except BUS_ERRORS:
            raise _away() from None
        entries = await self._entries(stored, after.epoch, ordering)
        entries = [entry for entry in entries if entry.position > after]
        if stored and stored[0].sequence > after.sequence + 1:
            entries.insert(0, Entry(Position(after.epoch, stored[0].sequence - 1, 0), (), None))
        return entries, max(after, _end(stored, after)), ordering

    async def _run(self) -> None:
        while True:
            await self._bus.wait_ready()
            try:
                await self._read()
            except TailLostError:
                _log.debug("event_feed_restarts")
            except UnavailableError:
                # What comes next has to wait for what comes before it, which only the ledger has.
                _log.debug("event_feed_waits")
                await asyncio.sleep(_LEDGER_RETRY)
            except BUS_ERRORS as error:
                _log.debug("event_feed_failed", error=repr(error))
            except Exception:  # noqa: BLE001 - watchers wait; the next try may work
                _log.exception("event_feed_failed")
            await asyncio.sleep(_RETRY)

    async def _read(self) -> None:
        state = await self._log.state()
        head = self.fanout.head
        if head is None or head.epoch != state.epoch or not state.first - 1 <= head.sequence <= state.last:
            self._restart(state, head)
        head = self.fanout.head
        assert head is not None  # noqa: S101 - set by _restart
        if head.sequence >= state.last:
            self._ready.set()
        async with contextlib.aclosing(self._log.tail(head.sequence + 1)) as tail:
            async for stored in tail:
                if stored[0].sequence != head.sequence + 1:
                    _log.warning("event_log_gap", had=str(head), next=stored[0].sequence)
                    metrics.WATCH_GAPS.inc()
                    self.fanout.restart(Position(head.epoch, stored[0].sequence - 1, 0))
                entries = await self._entries(stored, head.epoch, self._ordering)
                head = _end(stored, head)
                self.fanout.publish(entries, head)
                if entries and (newest := entries[-1].item) is not None:
                    metrics.WATCH_LAG.observe(
                        max(0.0, time.time() - newest.create_time.ToNanoseconds() / 1e9)
                    )
                if head.sequence >= state.last:
                    self._ready.set()

    def _restart(self, state: LogState, head: Position | None) -> None:
        self._ordering = Ordering()
        first = state.first
        if head is None:
            # What came shortly before serves watchers that come back, and tells repeats.
            first = max(first, state.last - _CONTEXT + 1)
        else:
            _log.warning("event_log_gap", had=str(head), first=state.first, last=state.last)
            metrics.WATCH_GAPS.inc()
        self.fanout.restart(Position(state.epoch, first - 1, 0))

    def _rest(self) -> None:
        self._ready.clear()
        self.fanout.forget()

    async def _entries(self, stored: Iterable[Stored], epoch: int, ordering: Ordering) -> list[EventEntry]:
        placed = [
            Placed(message.sequence, index * STEP, event)
            for message in stored
            for index, event in enumerate(_events(message), start=1)
        ]
        missing = ordering.missing(placed)
        found = await self._lookup(missing) if missing else {}
        entries = []
        for item, early in ordering.arrange(placed, found):
            if early:
                metrics.WATCH_REORDERED.inc()
            event = item.event
            keys = tuple(key for key in (event.conversation_id, event.sender, event.recipient) if key)
            entries.append(Entry(Position(epoch, item.sequence, item.offset), keys, event))
        return entries

    async def _lookup(self, missing: Sequence[EventKey]) -> dict[EventKey, event_pb.Event]:
        """Return events the log has not given yet, or raise UnavailableError.

        To go on without them would lose them: who resumes after a later event of their message gets them
        nowhere, since a process that has them puts them before it.
        """
        try:
            async with asyncio.timeout(_LOOKUP), self._database.read_primary() as connection:
                return await load_events(connection, missing)
        except TimeoutError:
            raise UnavailableError("the database does not answer", retry_after=_LEDGER_RETRY) from None


def _away() -> UnavailableError:
    return UnavailableError("the broker of events does not answer", retry_after=1)


def _events(message: Stored) -> Sequence[event_pb.Event]:
    if not message.subject.startswith(_WATCHED):
        return ()
    try:
        return event_pb.EventBatch.FromString(message.payload).events
    except DecodeError:
        _log.warning("event_batch_unreadable", subject=message.subject, sequence=message.sequence)
        return ()


def _end(stored: Sequence[Stored], otherwise: Position) -> Position:
    """Return the position after all of some messages."""
    if not stored:
        return otherwise
    return Position(otherwise.epoch, stored[-1].sequence, len(_events(stored[-1])) * STEP)
