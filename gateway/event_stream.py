"""One watcher's stream of Server-Sent Events: no task of its own while nothing happens."""

import asyncio
import random
import types
from collections.abc import Coroutine, Generator
from typing import Any, Final

import orjson
from starlette.types import Receive, Send

from gateway.event_feed import EventFeed, rendered
from gateway.identity import Metadata
from posthouse.v1 import event_pb2
from services.kit import metrics
from services.kit.fanout import Subscription
from services.kit.logs import get_logger
from services.kit.positions import Position

_log = get_logger(__name__)

# Seconds after which a watcher that reads nothing is given up.
STALLED: Final = 30.0
# Milliseconds after which watchers come back; spread, or they would come all at once.
_RETRY = (200, 3000)

# Writes that had to wait; the loop itself holds tasks weakly.
_waiting: set["asyncio.Task[None]"] = set()


class EventStream:
    """Writes what its subscription gets. A write that need not wait is done at once, by whoever publishes."""

    __slots__ = (
        "_busy_since",
        "_ended",
        "_feed",
        "_quiet",
        "_send",
        "_subscription",
        "_task",
        "credentials",
        "given_up",
        "vouched_time",
    )

    def __init__(self, feed: EventFeed, send: Send, credentials: Metadata) -> None:
        self.credentials = credentials
        # When the credentials were last found good, on the loop's clock.
        self.vouched_time = asyncio.get_running_loop().time()
        self._feed = feed
        self._send = send
        self._subscription: Subscription[event_pb2.Event] | None = None
        self._busy_since: float | None = None
        self._quiet = True
        self._ended = False
        self._task = asyncio.current_task()
        self.given_up = False

    async def write(self, chunk: bytes) -> None:
        """Write a part of the stream."""
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    def subscribe(self, key: str, also: str, after: Position) -> "Subscription[event_pb2.Event]":
        """Subscribe; what comes is written once `follow` is called."""
        self.unsubscribe()
        self._subscription = self._feed.fanout.subscribe(key, also, after=after, wake=_nothing)
        return self._subscription

    @property
    def overflowed(self) -> bool:
        """Tell whether more came than may wait."""
        return self._subscription is not None and self._subscription.overflowed

    def unsubscribe(self) -> None:
        """Forget the subscription."""
        if self._subscription is not None:
            self._feed.fanout.unsubscribe(self._subscription)
            self._subscription = None

    async def follow(self, receive: Receive) -> None:
        """Write what the subscription has and gets, until the watcher leaves or the stream is ended."""
        if self._subscription is not None:
            self._subscription.wake = self.flush
            self.flush()
        while (await receive())["type"] != "http.disconnect":
            pass

    def flush(self) -> None:
        """Write what waits, unless a write is under way: it goes on with the rest."""
        if self._busy_since is None and not self._ended:
            self._start(self._flush())

    def beat(self, now: float) -> None:
        """Give a sign of life when nothing else was written since the last one; give up who reads nothing."""
        if self._busy_since is not None:
            if now - self._busy_since > STALLED:
                self._give_up()
        elif self._quiet and not self._ended and self._subscription is not None:
            head = self._feed.fanout.head
            known = head is not None and head >= self._subscription.after
            line = f": keep-alive\nid: {head}\n\n" if known else ": keep-alive\n\n"
            self._start(self._beat(line.encode()))
        self._quiet = True

    def end(self, kind: str, detail: str, *, retry: bool = False) -> None:
        """End the stream with an entry that says why; the client comes back with its Last-Event-ID."""
        if self._ended:
            return
        if self._busy_since is not None:
            self._give_up()
        else:
            self._start(self._end(kind, detail, retry=retry))

    def _start(self, writing: Coroutine[Any, Any, None]) -> None:
        self._busy_since = asyncio.get_running_loop().time()
        try:
            waits_for = writing.send(None)
        except StopIteration:
            return
        except Exception:  # noqa: BLE001 - a connection that breaks is its own affair
            _log.debug("event_stream_broken", exc_info=True)
            return
        task = asyncio.create_task(_resume(writing, waits_for))
        _waiting.add(task)
        task.add_done_callback(_forget)

    async def _flush(self) -> None:
        try:
            while self._subscription is not None and not self._ended and not self.given_up:
                subscription = self._subscription
                if not subscription.pending:
                    if not subscription.overflowed:
                        return
                    metrics.WATCHERS_DROPPED.labels("sse", "slow").inc()
                    await self._end("overflow", "this watcher is too slow; connect again to go on")
                    return
                entries = subscription.take()
                self._quiet = False
                await self.write(b"".join([rendered(entry) for entry in entries]))
        finally:
            self._busy_since = None

    async def _beat(self, line: bytes) -> None:
        try:
            await self.write(line)
        finally:
            self._busy_since = None
        self.flush()

    async def _end(self, kind: str, detail: str, *, retry: bool = False) -> None:
        self._ended = True
        self.unsubscribe()
        pause = f"retry: {random.randint(*_RETRY)}\n" if retry else ""  # noqa: S311 - spreads, hides nothing
        data = orjson.dumps({"detail": detail}).decode()
        chunk = f"{pause}event: stream.{kind}\ndata: {data}\n\n".encode()
        await self._send({"type": "http.response.body", "body": chunk, "more_body": False})

    def _give_up(self) -> None:
        if not self.given_up and self._task is not None:
            metrics.WATCHERS_DROPPED.labels("sse", "stalled").inc()
            self.given_up = True
            self._task.cancel()


def _nothing() -> None:
    return


def _forget(task: "asyncio.Task[None]") -> None:
    _waiting.discard(task)
    if not task.cancelled() and task.exception() is not None:
        _log.debug("event_stream_broken", exc_info=task.exception())


async def _resume(writing: Coroutine[Any, Any, None], waits_for: Any) -> None:
    """Go on with a coroutine that was begun outside a task and has to wait."""
    await _rest(writing, waits_for)


@types.coroutine
def _rest(writing: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    while True:
        try:
            sent, failure = (yield waits_for), None
        except BaseException as error:  # noqa: BLE001 - a cancellation goes to the coroutine
            sent, failure = None, error
        try:
            waits_for = writing.send(sent) if failure is None else writing.throw(failure)
        except StopIteration:
            return
