"""GET /api/v1/events: what happens, as Server-Sent Events; plain ASGI, so that a watcher costs little."""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import grpc
from starlette.types import Receive, Scope, Send

from gateway import problems, queries
from gateway.callers import Callers
from gateway.event_feed import EventFeed, entries_of, gap, rendered
from gateway.event_stream import STALLED, EventStream
from gateway.identity import Metadata, caller, credentials
from gateway.rpc import CALL_TIMEOUT, Backends, typed
from posthouse.v1 import conversation_service_pb2 as pb
from services.kit import metrics
from services.kit.cancelling import cancel_all
from services.kit.errors import InvalidRequestError, OverloadedError, PosthouseError, UnavailableError
from services.kit.fanout import EVERYTHING
from services.kit.ids import parse_id
from services.kit.positions import Position, read_position
from services.kit.scopes import READ

if TYPE_CHECKING:
    _Call = grpc.aio.UnaryStreamCall[pb.WatchEventsRequest, pb.WatchEventsResponse]

PATH = "/api/v1/events"

_PARAMETERS = ("conversation_id", "participant")

# Watchers that catch up at the same time, each by a call of its own.
_CATCHING_UP = 64
_PAGE = 500
# Heartbeats go out in so many portions, not to all at once.
_PORTIONS = 30
_LONGEST = 1000
# Seconds for which a caller stays known while AuthService does not answer.
_VOUCHED = 60.0

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


@dataclass(frozen=True, slots=True)
class EventLimits:
    """Bounds of the streams of one gateway: `streams` at once, `heartbeat` in seconds, the rest in events."""

    streams: int = 10_000
    heartbeat: float = 15.0
    ring: int = 20_000
    backlog: int = 10_000


@dataclass(frozen=True, slots=True)
class _Query:
    conversation_id: str
    participant: str
    last_event_id: str


class EventRoute:
    """Streams events to as many watchers as it may; ends the streams when the gateway drains."""

    def __init__(
        self,
        backends: Backends,
        draining: asyncio.Event,
        *,
        limits: EventLimits | None = None,
        callers: Callers | None = None,
        metadata: Metadata = (),
    ) -> None:
        self._limits = limits or EventLimits()
        self._conversation = backends.conversation
        self._draining = draining
        self._callers = callers or Callers()
        self._feed = EventFeed(
            backends.conversation, metadata, ring=self._limits.ring, backlog=self._limits.backlog
        )
        self._catching_up = asyncio.Semaphore(_CATCHING_UP)
        self._portions: list[set[EventStream]] = [set() for _ in range(_PORTIONS)]
        self._tasks: list[asyncio.Task[None]] = []
        self._open = 0

    async def close(self) -> None:
        """End what runs behind the streams."""
        await cancel_all(self._tasks)
        await self._feed.attendance.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one watcher."""
        problem = queries.refusal(scope["query_string"], _PARAMETERS)
        if problem is not None:
            await problems.response(problem, scope)(scope, receive, send)
            return
        try:
            query = _read(scope)
            after = read_position("after_event_id", query.last_event_id)
            if self._draining.is_set():
                raise UnavailableError("the gateway is stopping", retry_after=1)
            if self._open >= self._limits.streams:
                raise OverloadedError("too many event streams are open", retry_after=5)
            # The events come by a call of the gateway itself, so whether a caller may see them is asked here.
            await self._callers.check_scope(credentials(scope["headers"]), READ)
            with self._counted():
                await self._serve(query, after, scope, receive, send)
        except PosthouseError as error:
            await problems.response(problems.from_error(error), scope)(scope, receive, send)

    async def _serve(
        self, query: _Query, after: Position | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        head = await self._feed.head()
        call: _Call | None = None
        participant = ""
        known = after is None or (after <= head and self._feed.fanout.covers(after))
        if query.participant or not known:
            metadata = (("x-request-id", scope["state"]["request_id"]), *caller(scope))
            call, participant = await self._call(query, metadata)
            if known:
                call.cancel()
                call = None
        key, also = query.conversation_id or participant or EVERYTHING, ""
        if query.conversation_id:
            also = participant
        stream = EventStream(self._feed, send, credentials(scope["headers"]))
        try:
            after = after or self._feed.fanout.head or head
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await stream.write(f": connected\nid: {after}\n\n".encode())
            if call is None:
                self._join(stream, key, also, after)
            else:
                async with self._catching_up:
                    await self._catch_up(stream, key, also, call)
            portion = self._portions[self._open % _PORTIONS]
            portion.add(stream)
            try:
                if self._draining.is_set():
                    self._end(stream)
                await stream.follow(receive)
            finally:
                portion.discard(stream)
        except asyncio.CancelledError:
            if not stream.given_up:
                raise
        finally:
            stream.unsubscribe()
            if call is not None:
                call.cancel()

    async def _call(self, query: _Query, metadata: Metadata) -> "tuple[_Call, str]":
        """Begin a call for the past of a watcher; return it, and the participant as events have it."""
        request = pb.WatchEventsRequest(
            conversation_id=query.conversation_id,
            participant=query.participant,
            after_event_id=query.last_event_id,
            max_batch_size=_PAGE,
        )
        call = self._conversation.WatchEvents(request, metadata=metadata)
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                first: Any = await call.read()
        except grpc.aio.AioRpcError as error:
            raise typed(error) from None
        except TimeoutError:
            call.cancel()
            raise UnavailableError("the stream of events cannot be had", retry_after=1) from None
        except asyncio.CancelledError:
            call.cancel()
            raise
        if not isinstance(first, pb.WatchEventsResponse):
            raise UnavailableError("the stream of events has ended", retry_after=1)
        return call, first.participant

    async def _catch_up(self, stream: EventStream, key: str, also: str, call: "_Call") -> None:
        """Write the past from a call until it meets what the subscription has."""
        meets = self._join(stream, key, also)
        try:
            while isinstance(response := await call.read(), pb.WatchEventsResponse):
                position = read_position("event_id", response.event_id) or meets
                if response.HasField("gap"):
                    await _write(stream, gap(position))
                    continue
                past = [rendered(entry) for entry in entries_of(response) if entry.position <= meets]
                if past:
                    await _write(stream, b"".join(past))
                if position >= meets:
                    return
                if stream.overflowed:
                    meets = self._join(stream, key, also)
            raise TimeoutError  # noqa: TRY301 - it ended before that
        except (grpc.aio.AioRpcError, TimeoutError):
            stream.end("reconnect", "the past could not be read; connect again to go on", retry=True)

    def _join(self, stream: EventStream, key: str, also: str, after: Position | None = None) -> Position:
        """Subscribe a stream to what comes after a position, or from now on; return the position."""
        after = after or self._feed.fanout.head
        if after is None or not self._feed.fanout.covers(after):
            stream.end("reconnect", "the log has moved on; connect again to go on", retry=True)
            return after or Position(0, 0, 0)
        stream.subscribe(key, also, after)
        return after

    @contextlib.contextmanager
    def _counted(self) -> Any:
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._beat()), asyncio.create_task(self._drain())]
        self._open += 1
        self._feed.attendance.enter()
        metrics.WATCHERS.labels("sse").set(self._open)
        try:
            yield
        finally:
            self._open -= 1
            self._feed.attendance.leave()
            metrics.WATCHERS.labels("sse").set(self._open)

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            for portion in self._portions:
                await asyncio.sleep(self._limits.heartbeat / _PORTIONS)
                for stream in list(portion):
                    if await self._may_go_on(stream, loop.time()):
                        stream.beat(loop.time())

    async def _may_go_on(self, stream: EventStream, now: float) -> bool:
        """Tell whether a watcher may still see events; its stream is ended if not."""
        try:
            await self._callers.check_scope(stream.credentials, READ)
        except PosthouseError as error:
            # While nobody can tell, what was known last counts, for a while.
            if isinstance(error, UnavailableError) and now - stream.vouched_time < _VOUCHED:
                return True
            stream.end("reconnect", error.message)
            return False
        stream.vouched_time = now
        return True

    async def _drain(self) -> None:
        await self._draining.wait()
        for portion in self._portions:
            for stream in list(portion):
                self._end(stream)
            await asyncio.sleep(0)

    def _end(self, stream: EventStream) -> None:
        metrics.WATCHERS_DROPPED.labels("sse", "stopping").inc()
        stream.end("reconnect", "this gateway is stopping; connect again to go on", retry=True)


async def _write(stream: EventStream, chunk: bytes) -> None:
    async with asyncio.timeout(STALLED):
        await stream.write(chunk)


def _read(scope: Scope) -> _Query:
    values = dict(parse_qsl(scope["query_string"].decode("latin-1")))
    conversation_id = values.get("conversation_id", "")
    participant = queries.address(values.get("participant", ""))
    if len(participant) > _LONGEST:
        raise InvalidRequestError.field("participant", "is too long")
    given = [value for name, value in scope["headers"] if name == b"last-event-id"]
    return _Query(
        parse_id("conversation_id", conversation_id) if conversation_id else "",
        participant,
        given[-1].decode("latin-1") if given else "",
    )


# The route is not FastAPI's, so its documentation is written by hand.
OPERATION: dict[str, Any] = {
    "tags": ["events"],
    "summary": "Watch what happens",
    "description": (
        "Streams events from now on, or from after the one in Last-Event-ID, as Server-Sent Events. Entries "
        "named `stream.gap`, `stream.overflow` and `stream.reconnect` are about the stream itself."
    ),
    "operationId": "watch_events",
    "parameters": [
        {
            "name": "conversation_id",
            "in": "query",
            "required": False,
            "description": "Only of this conversation.",
            "schema": {"type": "string", "format": "uuid"},
        },
        {
            "name": "participant",
            "in": "query",
            "required": False,
            "description": "Only with this address, in any form.",
            "schema": {"type": "string"},
        },
        {
            "name": "Last-Event-ID",
            "in": "header",
            "required": False,
            "description": "Resume after this event.",
            "schema": {"type": "string"},
        },
    ],
    "responses": {
        "200": {
            "description": "Events as they happen; `id` is the position to resume from with Last-Event-ID.",
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": "id: 1a2019f3c40-1042-64\nevent: sent\n"
                    'data: {"type": "sent", "status": "sent"}'
                    "\n\n",
                }
            },
        }
    },
}
