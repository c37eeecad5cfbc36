"""WatchEvents: one watcher's stream, from the past it asks for into the present."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from posthouse.v1 import conversation_service_pb2 as pb
from posthouse.v1 import event_pb2 as event_pb
from services.conversation.feed import EventEntry, EventFeed
from services.conversation.fields import read_participant_filter
from services.kit import metrics
from services.kit.errors import OverloadedError, UnavailableError
from services.kit.fanout import EVERYTHING, Subscription
from services.kit.ids import parse_id
from services.kit.positions import Position, read_position

_MOST_BATCHED = 1000
# Watchers that read the past from the broker at the same time; the others wait for their turn.
_READERS = 8


@dataclass(frozen=True, slots=True)
class WatchFilter:
    """What a watcher wants; empty words mean any."""

    conversation_id: str = ""
    participant: str = ""

    @property
    def keys(self) -> tuple[str, str]:
        """Return the key to subscribe to, and what an entry must have besides."""
        if self.conversation_id:
            return self.conversation_id, self.participant
        return self.participant or EVERYTHING, ""

    def wants(self, entry: EventEntry) -> bool:
        """Tell whether an entry passes."""
        wanted = (key for key in (self.conversation_id, self.participant) if key)
        return entry.item is None or all(key in entry.keys for key in wanted)


@dataclass(frozen=True, slots=True)
class WatchLimits:
    """`streams` at the same time, and seconds between heartbeats."""

    streams: int = 10_000
    heartbeat: float = 15.0


class Watchers:
    """Serves any number of streams, within the limits, from one feed."""

    def __init__(self, feed: EventFeed, limits: WatchLimits, *, phone_region: str = "US") -> None:
        self._feed = feed
        self._limits = limits
        self._phone_region = phone_region
        self._open = 0
        self._nobody = asyncio.Event()
        self._nobody.set()
        self._readers = asyncio.Semaphore(_READERS)

    async def end(self, patience: float) -> None:
        """Have every watcher told to come back, and wait until they have left, `patience` seconds at most."""
        self._feed.end_watchers()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._nobody.wait()

    async def watch(self, request: pb.WatchEventsRequest) -> AsyncIterator[pb.WatchEventsResponse]:
        """Yield what a request asks for, until the watcher leaves.

        Raises InvalidRequestError, OverloadedError when there are too many watchers or this one is too
        slow, and UnavailableError when this process stops.
        """
        narrowed = WatchFilter(
            parse_id("conversation_id", request.conversation_id) if request.conversation_id else "",
            read_participant_filter("participant", request.participant, region=self._phone_region),
        )
        after = read_position("after_event_id", request.after_event_id)
        if self._open >= self._limits.streams:
            raise OverloadedError("too many watchers are connected", retry_after=5)
        self._open += 1
        self._nobody.clear()
        metrics.WATCHERS.labels("grpc").set(self._open)
        self._feed.attendance.enter()
        try:
            head = await self._feed.head()
            yield pb.WatchEventsResponse(event_id=str(after or head), participant=narrowed.participant)
            most = min(request.max_batch_size, _MOST_BATCHED)
            async for response in self._stream(narrowed, after or head, most, resumed=after is not None):
                yield response
        finally:
            self._open -= 1
            if not self._open:
                self._nobody.set()
            self._feed.attendance.leave()
            metrics.WATCHERS.labels("grpc").set(self._open)

    async def _stream(
        self, narrowed: WatchFilter, after: Position, most: int, *, resumed: bool
    ) -> AsyncIterator[pb.WatchEventsResponse]:
        fanout = self._feed.fanout
        if fanout.head is None or after > fanout.head or not fanout.covers(after):
            start = await self._enter(after)
            if start != after:
                yield _gap(start)
            after, seen = start, None
            while not fanout.covers(after):
                self._check_open(after)
                async with self._readers:
                    entries, end, seen = await self._feed.page(after, seen)
                for response in _responses([entry for entry in entries if narrowed.wants(entry)], most):
                    yield response
                if end == after or (fanout.head and end.epoch != fanout.head.epoch):
                    raise UnavailableError(f"the log has moved on; resume after {after}", retry_after=0.5)
                after = end
        key, also = narrowed.keys
        something = asyncio.Event()
        subscription = fanout.subscribe(key, also, after=after, wake=something.set)
        try:
            async for response in self._live(subscription, something, most, resumed=resumed):
                yield response
        finally:
            fanout.unsubscribe(subscription)

    async def _live(
        self,
        subscription: "Subscription[event_pb.Event]",
        something: asyncio.Event,
        most: int,
        *,
        resumed: bool,
    ) -> AsyncIterator[pb.WatchEventsResponse]:
        after = subscription.after
        patience = 0.0 if resumed else self._limits.heartbeat
        while True:
            if not subscription.pending and not subscription.overflowed and not self._feed.closing:
                something.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(patience):
                        await something.wait()
                patience = self._limits.heartbeat
                if not subscription.pending and not subscription.overflowed and not self._feed.closing:
                    # Nothing waits: the watcher has all up to the head. It may know more than this process.
                    after = max(after, self._feed.fanout.head or after)
                    yield pb.WatchEventsResponse(event_id=str(after))
                    continue
            for response in _responses(subscription.take(), most):
                yield response
                after = _position_of(response, after)
            if subscription.pending:
                continue
            self._check_open(after)
            if subscription.overflowed:
                metrics.WATCHERS_DROPPED.labels("grpc", "slow").inc()
                raise OverloadedError(f"this watcher is too slow; resume after {after}", retry_after=0.5)

    async def _enter(self, after: Position) -> Position:
        """Return where to begin in the log there is: after a position, or where the log begins."""
        state = await self._feed.state()
        if after.epoch == state.epoch and state.first - 1 <= after.sequence <= state.last:
            return after
        return Position(state.epoch, state.first - 1, 0)

    def _check_open(self, after: Position) -> None:
        if self._feed.closing:
            metrics.WATCHERS_DROPPED.labels("grpc", "stopping").inc()
            raise UnavailableError(
                f"the server is stopping; connect again and resume after {after}",
                retry_after=round(random.uniform(0.2, 2.0), 3),  # noqa: S311 - spreads those who come back
            )


def _position_of(response: pb.WatchEventsResponse, otherwise: Position) -> Position:
    return read_position("event_id", response.event_id) or otherwise


def _responses(entries: Sequence[EventEntry], most: int) -> list[pb.WatchEventsResponse]:
    """Return the responses that carry entries, a gap always in one of its own."""
    if most <= 1:
        return [
            _gap(entry.position)
            if entry.item is None
            else pb.WatchEventsResponse(event_id=str(entry.position), event=entry.item)
            for entry in entries
        ]
    responses: list[pb.WatchEventsResponse] = []
    room = 0
    for entry in entries:
        if entry.item is None:
            responses.append(_gap(entry.position))
            room = 0
            continue
        if not room:
            responses.append(pb.WatchEventsResponse())
            room = most
        responses[-1].events.add(event_id=str(entry.position), event=entry.item)
        responses[-1].event_id = responses[-1].events[-1].event_id
        room -= 1
    return responses


def _gap(position: Position) -> pb.WatchEventsResponse:
    detail = "events before this position are no longer in the stream; some may not have been seen"
    return pb.WatchEventsResponse(event_id=str(position), gap=pb.WatchGap(detail=detail))
