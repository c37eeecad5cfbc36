"""Joins concurrent requests of one caller into batch calls, without making anyone wait for company."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from gateway.identity import Metadata
from services.kit.errors import InternalError, OverloadedError, PosthouseError, UnavailableError
from services.kit.logs import get_logger
from services.kit.tracing import CONTEXTS, current_trace, span

_log = get_logger(__name__)

_Req = TypeVar("_Req")
_Res = TypeVar("_Res")

# Makes one call for many requests; the answers come in the order of the requests.
Call = Callable[[Sequence[_Req], Metadata], Awaitable[Sequence[_Res | PosthouseError]]]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a Coalescer; bytes are those of the HTTP bodies, times are in seconds."""

    batch_size: int = 500
    batch_bytes: int = 4 * 1024 * 1024
    # Calls of one caller at the same time.
    calls_in_flight: int = 4
    # A caller whose last call had at least so many requests is busy. Then a further call is made beside one
    # in flight only for what has waited for `patience`, and after one the next waits until those answered
    # have come again, for `linger` at most.
    busy_size: int = 8
    patience: float = 0.05
    linger: float = 0.012
    queue_size: int = 10_000
    queue_bytes: int = 64 * 1024 * 1024


@dataclass(slots=True, eq=False)
class _Waiter(Generic[_Req, _Res]):
    request: _Req
    size: int
    request_id: str
    came: float
    answer: "asyncio.Future[_Res | PosthouseError]"
    # Of the request that it came with, "" where nothing is traced.
    trace: str


@dataclass(slots=True, eq=False)
class _Lane(Generic[_Req, _Res]):
    """The requests of one caller: credentials travel with a call, so callers cannot share one."""

    caller: Metadata
    waiting: deque[_Waiter[_Req, _Res]] = field(default_factory=deque)
    calls: int = 0
    busy: bool = False
    # Requests that are worth waiting for while it lingers, 0 while it does not.
    expected: int = 0
    timer: asyncio.TimerHandle | asyncio.Handle | None = None


class Coalescer(Generic[_Req, _Res]):
    """Turns requests into batch calls.

    A request of a caller that is not busy goes out at once while a call is free. Those of a busy one gather
    for the next while a call is in flight, since one costs several times less in a batch of dozens than
    alone. A call that takes long holds nobody: what has lost its patience goes out beside it. A waiter that
    goes away takes nothing from its neighbours.
    """

    def __init__(self, name: str, call: Call[_Req, _Res], limits: Limits | None = None) -> None:
        # What a call is named in traces.
        self._name = name
        self._call = call
        self._limits = limits or Limits()
        self._lanes: dict[Metadata, _Lane[_Req, _Res]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._queued = 0
        self._queued_bytes = 0

    async def send(self, request: _Req, *, size: int, caller: Metadata, request_id: str) -> _Res:
        """Return the answer to a request, or raise this very request's typed error.

        `size` is its weight in bytes. Raises OverloadedError when too many requests wait already.
        """
        full = self._queued >= self._limits.queue_size
        if full or (self._queued and self._queued_bytes + size > self._limits.queue_bytes):
            raise OverloadedError("too many requests wait in the gateway", retry_after=1)
        loop = asyncio.get_running_loop()
        waiter: _Waiter[_Req, _Res] = _Waiter(
            request, size, request_id, loop.time(), loop.create_future(), current_trace()
        )
        lane = self._lanes.get(caller)
        if lane is None:
            lane = self._lanes[caller] = _Lane(caller)
        lane.waiting.append(waiter)
        self._queued += 1
        self._queued_bytes += size
        if len(lane.waiting) in (self._limits.batch_size, lane.expected):
            self._flush_in(lane, 0.0)
        elif lane.timer is None:
            # On the loop's next turn at the earliest, so that all requests read in this one travel together.
            self._flush_in(lane, self._limits.patience if lane.calls and lane.busy else 0.0)
        answer = await waiter.answer
        if isinstance(answer, PosthouseError):
            # One instance may be shared by all requests of a call: do not grow its traceback.
            raise answer.with_traceback(None)
        return answer

    async def close(self) -> None:
        """Send what waits, without lingering, and wait for the calls in flight."""
        while self._queued or self._tasks:
            for lane in list(self._lanes.values()):
                self._flush(lane)
            if self._tasks:
                await asyncio.wait(self._tasks)

    def _flush_in(self, lane: _Lane[_Req, _Res], delay: float) -> None:
        if lane.timer is not None:
            lane.timer.cancel()
        loop = asyncio.get_running_loop()
        lane.timer = loop.call_later(delay, self._flush, lane) if delay else loop.call_soon(self._flush, lane)

    def _flush(self, lane: _Lane[_Req, _Res]) -> None:
        lane.timer, lane.expected = None, 0
        now = asyncio.get_running_loop().time()
        while lane.waiting and lane.calls < self._limits.calls_in_flight:
            left = lane.waiting[0].came + self._limits.patience - now
            if lane.calls and lane.busy and left > 0 and len(lane.waiting) < self._limits.batch_size:
                self._flush_in(lane, left)
                break
            batch = self._take(lane)
            if batch:
                lane.calls += 1
                lane.busy = len(batch) >= self._limits.busy_size
                task = asyncio.create_task(self._run(lane, batch))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        if not lane.waiting and not lane.calls:
            self._forget(lane)

    def _forget(self, lane: _Lane[_Req, _Res]) -> None:
        if self._lanes.get(lane.caller) is lane:
            del self._lanes[lane.caller]

    def _take(self, lane: _Lane[_Req, _Res]) -> list[_Waiter[_Req, _Res]]:
        """Take a call's worth of requests off the lane; those whose caller has gone are dropped unsent."""
        batch: list[_Waiter[_Req, _Res]] = []
        size = 0
        while lane.waiting and len(batch) < self._limits.batch_size:
            if batch and size + lane.waiting[0].size > self._limits.batch_bytes:
                break
            waiter = lane.waiting.popleft()
            self._queued -= 1
            self._queued_bytes -= waiter.size
            if not waiter.answer.done():
                size += waiter.size
                batch.append(waiter)
        return batch

    async def _run(self, lane: _Lane[_Req, _Res], batch: list[_Waiter[_Req, _Res]]) -> None:
        try:
            answers = await self._ask(lane.caller, batch)
        finally:
            lane.calls -= 1
            if lane.busy and len(batch) > 1:
                lane.expected = len(lane.waiting) + len(batch)
                self._flush_in(lane, self._limits.linger)
            else:
                self._flush_in(lane, 0.0)
        for waiter, answer in zip(batch, answers, strict=True):
            if not waiter.answer.done():
                waiter.answer.set_result(answer)

    async def _ask(
        self, caller: Metadata, batch: list[_Waiter[_Req, _Res]]
    ) -> Sequence[_Res | PosthouseError]:
        # A shared call bears the id of its first request.
        metadata = (("x-request-id", batch[0].request_id), *caller)
        traces = [waiter.trace for waiter in batch]
        if any(traces):
            metadata += ((CONTEXTS, ",".join(traces)),)
        try:
            with span(self._name, traces, message_count=len(batch)):
                answers = await self._call([waiter.request for waiter in batch], metadata)
        except PosthouseError as error:
            return [error] * len(batch)
        except asyncio.CancelledError:
            # The channel was closed under the call: the requests may or may not be committed.
            return [UnavailableError("the gateway is stopping", retry_after=1)] * len(batch)
        except Exception:  # noqa: BLE001 - logged; the waiters must be answered whatever it was
            _log.exception("coalesced_call_failed", request_id=batch[0].request_id, requests=len(batch))
            return [InternalError()] * len(batch)
        if len(answers) != len(batch):
            _log.error("coalesced_call_miscounted", requests=len(batch), answers=len(answers))
            return [InternalError()] * len(batch)
        return answers
