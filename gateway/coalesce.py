"""Joins concurrent single sends of one caller into batch calls, without making anyone wait for company."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from gateway.identity import Metadata
from posthouse.v1 import message_service_pb2 as pb
from services.kit.errors import OverloadedError, PosthouseError, UnavailableError
from services.kit.logs import get_logger
from services.kit.status import from_item_error
from services.kit.tracing import CONTEXTS, current_trace, span

_log = get_logger(__name__)

Call = Callable[[pb.SendMessagesRequest, Metadata], Awaitable[pb.SendMessagesResponse]]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a Coalescer; bytes are those of the HTTP bodies, times are in seconds."""

    batch_size: int = 500
    batch_bytes: int = 4 * 1024 * 1024
    # Calls of one caller at the same time.
    calls_in_flight: int = 4
    # A caller whose last call had at least so many sends is busy. Then a further call is made beside one in
    # flight only for what has waited for `patience`, and after one the next waits for those answered to
    # come again.
    busy_size: int = 8
    patience: float = 0.05
    linger: float = 0.004
    queue_size: int = 10_000
    queue_bytes: int = 64 * 1024 * 1024


@dataclass(slots=True, eq=False)
class _Waiter:
    request: pb.SendMessageRequest
    size: int
    request_id: str
    came: float
    answer: "asyncio.Future[pb.AcceptedMessage | PosthouseError]"
    # Of the request that it came with, "" where nothing is traced.
    trace: str


@dataclass(slots=True, eq=False)
class _Lane:
    """The sends of one caller: credentials travel with a call, so callers cannot share one."""

    caller: Metadata
    waiting: deque[_Waiter] = field(default_factory=deque)
    calls: int = 0
    busy: bool = False
    timer: asyncio.TimerHandle | asyncio.Handle | None = None


class Coalescer:
    """Turns sends into SendMessages calls.

    A send of a caller that is not busy goes out at once while a call is free. Those of a busy one gather for
    the next while a call is in flight, since a message costs several times less in a batch of dozens than
    alone. A call that takes long holds nobody: what has lost its patience goes out beside it. A waiter that
    goes away takes nothing from its neighbours.
    """

    def __init__(self, call: Call, limits: Limits | None = None) -> None:
        self._call = call
        self._limits = limits or Limits()
        self._lanes: dict[Metadata, _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._queued = 0
        self._queued_bytes = 0

    async def send(
        self, request: pb.SendMessageRequest, *, size: int, caller: Metadata, request_id: str
    ) -> pb.AcceptedMessage:
        """Return the accepted message, or raise this very send's typed error.

        `size` is the send's weight in bytes. Raises OverloadedError when too many sends wait already.
        """
        full = self._queued >= self._limits.queue_size
        if full or (self._queued and self._queued_bytes + size > self._limits.queue_bytes):
            raise OverloadedError("too many sends wait in the gateway", retry_after=1)
        loop = asyncio.get_running_loop()
        waiter = _Waiter(request, size, request_id, loop.time(), loop.create_future(), current_trace())
        lane = self._lanes.get(caller)
        if lane is None:
            lane = self._lanes[caller] = _Lane(caller)
        lane.waiting.append(waiter)
        self._queued += 1
        self._queued_bytes += size
        if len(lane.waiting) == self._limits.batch_size:
            self._flush_in(lane, 0.0)
        elif lane.timer is None:
            # On the loop's next turn at the earliest, so that all requests read in this one travel together.
            self._flush_in(lane, self._limits.patience if lane.calls and lane.busy else 0.0)
        answer = await waiter.answer
        if isinstance(answer, PosthouseError):
            # One instance may be shared by all sends of a call: do not grow its traceback.
            raise answer.with_traceback(None)
        return answer

    async def close(self) -> None:
        """Send what waits, without lingering, and wait for the calls in flight."""
        while self._queued or self._tasks:
            for lane in list(self._lanes.values()):
                self._flush(lane)
            if self._tasks:
                await asyncio.wait(self._tasks)

    def _flush_in(self, lane: _Lane, delay: float) -> None:
        if lane.timer is not None:
            lane.timer.cancel()
        loop = asyncio.get_running_loop()
        lane.timer = loop.call_later(delay, self._flush, lane) if delay else loop.call_soon(self._flush, lane)

    def _flush(self, lane: _Lane) -> None:
        lane.timer = None
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

    def _forget(self, lane: _Lane) -> None:
        if self._lanes.get(lane.caller) is lane:
            del self._lanes[lane.caller]

    def _take(self, lane: _Lane) -> list[_Waiter]:
        """Take a call's worth of sends off the lane; those whose caller has gone are dropped unsent."""
        batch: list[_Waiter] = []
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

    async def _run(self, lane: _Lane, batch: list[_Waiter]) -> None:
        try:
            answers = await self._ask(lane.caller, batch)
        finally:
            lane.calls -= 1
            self._flush_in(lane, self._limits.linger if lane.busy else 0.0)
        for waiter, answer in zip(batch, answers, strict=True):
            if not waiter.answer.done():
                waiter.answer.set_result(answer)

    async def _ask(
        self, caller: Metadata, batch: list[_Waiter]
    ) -> Sequence[pb.AcceptedMessage | PosthouseError]:
        # A shared call bears the id of its first request.
        metadata = (("x-request-id", batch[0].request_id), *caller)
        traces = [waiter.trace for waiter in batch]
        if any(traces):
            metadata += ((CONTEXTS, ",".join(traces)),)
        try:
            with span("send batch", traces, message_count=len(batch)):
                response = await self._call(
                    pb.SendMessagesRequest(requests=[waiter.request for waiter in batch]), metadata
                )
        except PosthouseError as error:
            return [error] * len(batch)
        except asyncio.CancelledError:
            # The channel was closed under the call: the sends may or may not be committed.
            return [UnavailableError("the gateway is stopping", retry_after=1)] * len(batch)
        except Exception:  # noqa: BLE001 - logged; the waiters must be answered whatever it was
            _log.exception("coalesced_send_failed", request_id=batch[0].request_id, sends=len(batch))
            return [PosthouseError("internal error")] * len(batch)
        if len(response.results) != len(batch):
            _log.error("coalesced_send_miscounted", sends=len(batch), results=len(response.results))
            return [PosthouseError("internal error")] * len(batch)
        return [
            from_item_error(result.error) if result.HasField("error") else result.message
            for result in response.results
        ]
