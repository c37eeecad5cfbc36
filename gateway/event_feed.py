"""The log of events as this gateway reads it: one stream of everything, fanned out in memory."""

import asyncio
import contextlib
from typing import TYPE_CHECKING

import grpc
import orjson

from gateway.identity import Metadata
from gateway.rpc import typed
from posthouse.v1 import conversation_service_pb2 as pb
from posthouse.v1 import event_pb2
from services.kit.attendance import Attendance
from services.kit.errors import PosthouseError, UnavailableError
from services.kit.event_json import event_json
from services.kit.fanout import Entry, Fanout
from services.kit.logs import get_logger
from services.kit.positions import Position, read_position

if TYPE_CHECKING:
    from posthouse.v1.conversation_service_pb2_grpc import ConversationServiceAsyncStub

_log = get_logger(__name__)

_BATCH = 500
# Seconds a new watcher waits for a feed that has no answer yet, and between tries to get one.
_PATIENCE, _RETRY = 5.0, 0.5
# Seconds the stream is kept when nobody watches any more.
_LINGER = 60.0

EventEntry = Entry[event_pb2.Event]


class EventFeed:
    """Keeps one WatchEvents call while somebody watches, and makes it again where it stopped."""

    def __init__(
        self, conversation: "ConversationServiceAsyncStub", metadata: Metadata, *, ring: int, backlog: int
    ) -> None:
        self._conversation = conversation
        self._metadata = metadata
        # Set when the log can be read, and when the service refuses it for good.
        self._answered = asyncio.Event()
        self._refusal: PosthouseError | None = None
        self.attendance = Attendance(self._run, self._rest, linger=_LINGER)
        self.fanout: Fanout[event_pb2.Event] = Fanout(ring=ring, backlog=backlog)

    async def head(self) -> Position:
        """Return how far the log was read.

        Raises the service's refusal, or UnavailableError while there is no answer.
        """
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._answered.wait()
        except TimeoutError:
            raise UnavailableError("the stream of events cannot be had", retry_after=1) from None
        if self.fanout.head is None:
            raise self._refusal or UnavailableError("the stream of events has ended", retry_after=1)
        return self.fanout.head

    async def _run(self) -> None:
        while True:
            try:
                await self._read()
            except grpc.aio.AioRpcError as error:
                _log.debug("event_feed_ended", code=error.code().name)
                self._refuse(typed(error))
            except Exception:  # noqa: BLE001 - watchers wait; the next try may work
                _log.exception("event_feed_failed")
            await asyncio.sleep(_RETRY)
            if self.fanout.head is None:
                # Whoever waited has heard of it; who comes next has to be asked for again.
                self._answered.clear()
                if not self.attendance.count:
                    return

    def _refuse(self, error: PosthouseError) -> None:
        if self.fanout.head is None and not isinstance(error, UnavailableError):
            self._refusal = error.with_traceback(None)
            self._answered.set()

    async def _read(self) -> None:
        after = str(self.fanout.head or "")
        request = pb.WatchEventsRequest(after_event_id=after, max_batch_size=_BATCH)
        call = self._conversation.WatchEvents(request, metadata=self._metadata)
        with contextlib.closing(_Cancelling(call)):
            async for response in call:
                self._take(response)

    def _take(self, response: pb.WatchEventsResponse) -> None:
        position = read_position("event_id", response.event_id)
        if position is None:
            return
        if self.fanout.head is None or response.HasField("gap"):
            self.fanout.restart(position)
            self._answered.set()
        else:
            self.fanout.publish(entries_of(response), position)

    def _rest(self) -> None:
        self._answered.clear()
        self.fanout.forget()


class _Cancelling:
    def __init__(
        self, call: "grpc.aio.UnaryStreamCall[pb.WatchEventsRequest, pb.WatchEventsResponse]"
    ) -> None:
        self._call = call

    def close(self) -> None:
        self._call.cancel()


def entries_of(response: pb.WatchEventsResponse) -> list[EventEntry]:
    """Return the entries of a response that has several."""
    entries = []
    for watched in response.events:
        event = watched.event
        position = read_position("event_id", watched.event_id)
        if position is not None:
            keys = tuple(key for key in (event.conversation_id, event.sender, event.recipient) if key)
            entries.append(Entry(position, keys, event))
    return entries


def rendered(entry: EventEntry) -> bytes:
    """Return an entry as Server-Sent Events have it; made once, however many want it."""
    if entry.rendered is None:
        event = entry.item
        if event is None:
            entry.rendered = gap(entry.position)
        else:
            data = orjson.dumps(event_json(event))
            head = f"id: {entry.position}\nevent: {event.type}\ndata: "
            entry.rendered = b"%b%b\n\n" % (head.encode(), data)
    return entry.rendered


def gap(position: Position) -> bytes:
    """Return the entry that says that events before a position may be missing."""
    data = orjson.dumps({"detail": "events may be missing here; the messages and their events have them"})
    return b"id: %b\nevent: stream.gap\ndata: %b\n\n" % (str(position).encode(), data)
