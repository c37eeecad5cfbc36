"""The breakers of all routed providers: what moves them is logged, counted, and told to other dispatchers."""

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NoReturn

import nats.js.errors

from posthouse.v1 import event_pb2 as event_pb
from services.kit import enum_names, metrics
from services.kit.breaker import CLOSED, HALF_OPEN, OPEN, Breaker, BreakerPolicy
from services.kit.breaker_news import CLOSED as CLOSED_AGAIN
from services.kit.breaker_news import (
    HALF_OPENED,
    OPENED,
    STREAM,
    age_of,
    follow_breakers,
    read_news,
    subject_of,
)
from services.kit.bus import BUS_ERRORS, Bus
from services.kit.ids import new_id
from services.kit.logs import get_logger
from services.ledger.event_batches import make_timestamp

_log = get_logger(__name__)

# Types of the events, by the state they tell of.
_TYPES: Final = {OPEN: OPENED, HALF_OPEN: HALF_OPENED, CLOSED: CLOSED_AGAIN}
_LEVELS: Final = {CLOSED: 0, HALF_OPEN: 1, OPEN: 2}

# Seconds between looks at what time alone moves.
_TICK = 0.25
# Changes that wait to be published; while the bus is away, more than that are only logged.
_QUEUE_SIZE = 1000


class Breakers:
    """One breaker per provider and channel. `clock` returns monotonic seconds.

    `shared`: who tries a provider out is agreed upon with other dispatchers, which takes `run`.
    """

    def __init__(
        self,
        routing: Mapping[str, Sequence[str]],
        policy: BreakerPolicy,
        *,
        clock: Callable[[], float] = time.monotonic,
        shared: bool = False,
    ) -> None:
        # Which of the events that are heard are our own.
        self._instance = new_id()
        self._count = 0
        self._hearing = False
        self._policy = policy
        # The newest event of another dispatcher that was heard of each place.
        self._known: dict[tuple[str, str], str] = {}
        self._changes: asyncio.Queue[event_pb.Event] = asyncio.Queue(_QUEUE_SIZE)
        # Places whose cool-down is over; none is in it twice.
        self._asked: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._breakers = {
            (name, channel): Breaker(
                policy,
                clock=clock,
                on_change=self._observer(name, channel),
                ask=functools.partial(self._asked.put_nowait, (name, channel)) if shared else None,
            )
            for channel, names in routing.items()
            for name in names
        }
        # The hot path looks at this alone while nothing is wrong.
        self.all_closed = True
        for name, channel in self._breakers:
            metrics.BREAKER_STATE.labels(name, channel).set(_LEVELS[CLOSED])

    def find(self, provider: str, channel: str) -> Breaker | None:
        """Return the breaker of a provider and channel, None when the one is no route of the other."""
        return self._breakers.get((provider, channel))

    def of(self, provider: str, channel: str) -> Breaker:
        """Return the breaker of a routed provider."""
        return self._breakers[provider, channel]

    def state(self, provider: str, channel: str) -> str:
        """Return the state of a breaker, "" when there is none."""
        breaker = self.find(provider, channel)
        return "" if breaker is None else breaker.state

    async def run(self, bus: Bus) -> None:
        """Tell other dispatchers what changes here, and hear what changes there; cancel to end it."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tick())
            group.create_task(self._publish(bus))
            group.create_task(self._seek_leave(bus))
            group.create_task(follow_breakers(bus, self._breakers, self.hear))

    def _observer(self, provider: str, channel: str) -> Callable[[str], None]:
        def changed(state: str) -> None:
            self.all_closed = all(breaker.last_state == CLOSED for breaker in self._breakers.values())
            metrics.BREAKER_STATE.labels(provider, channel).set(_LEVELS[state])
            metrics.BREAKER_TRANSITIONS.labels(provider, channel, state).inc()
            say = _log.warning if state == OPEN else _log.info
            say(f"breaker_{_TYPES[state]}", provider=provider, channel=channel, told=self._hearing)
            if not self._hearing:
                self._enqueue(provider, channel, state)

        return changed

    def _enqueue(self, provider: str, channel: str, state: str) -> None:
        if not self._changes.full():
            self._changes.put_nowait(self._event(provider, channel, state))

    def _event(self, provider: str, channel: str, state: str) -> event_pb.Event:
        self._count += 1
        return event_pb.Event(
            id=f"{self._instance}.{self._count}",
            type=_TYPES[state],
            create_time=make_timestamp(datetime.now(UTC)),
            channel=enum_names.CHANNEL.number(channel),
            provider=provider,
        )

    def hear(self, event: event_pb.Event) -> None:
        """Follow what another dispatcher has found out."""
        place = (event.provider, enum_names.CHANNEL.word(event.channel))
        breaker = self.find(*place)
        if breaker is None or event.id.startswith(self._instance):
            return
        self._known[place] = event.id
        with self._told():
            if event.type == OPENED:
                breaker.trip(age_of(event))
            elif event.type == HALF_OPENED:
                if breaker.last_state == CLOSED:
                    breaker.trip()
                breaker.leave_probing()
            elif event.type == CLOSED_AGAIN:
                breaker.reset()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Have changes not be told to others, who know."""
        self._hearing = True
        try:
            yield
        finally:
            self._hearing = False

    async def _seek_leave(self, bus: Bus) -> NoReturn:
        """Have one dispatcher alone try a provider out: the first to say so of all that know the same."""
        while True:
            provider, channel = await self._asked.get()
            breaker = self.of(provider, channel)
            if not breaker.asking:
                # Another dispatcher has had its round meanwhile: a new cool-down has begun.
                continue
            try:
                granted = await self._may_probe(bus, provider, channel)
            except nats.js.errors.BadRequestError:
                granted = False
            except BUS_ERRORS as error:
                # Without the broker there is nobody to ask, and no work but what is here.
                _log.warning("probes_not_agreed", error=repr(error))
                granted = True
            with self._told():
                if granted:
                    breaker.begin_probing()
                else:
                    breaker.leave_probing()

    async def _may_probe(self, bus: Bus, provider: str, channel: str) -> bool:
        subject = subject_of(provider, channel)
        last = await bus.last(STREAM, subject) if bus.connected else None
        for event in read_news(last[1]) if last is not None else ():
            if event.id.startswith(self._instance):
                continue
            if event.id != self._known.get((provider, channel)):
                # A verdict that came while we were about to ask: its cool-down has only begun.
                self.hear(event)
                return False
            if event.type == HALF_OPENED and age_of(event) < self._policy.cool_down:
                return False
        event = self._event(provider, channel, HALF_OPEN)
        await bus.publish(
            subject,
            event_pb.EventBatch(events=[event]).SerializeToString(),
            message_id=event.id,
            after=0 if last is None else last[0],
        )
        return True

    async def _tick(self) -> NoReturn:
        while True:
            await asyncio.sleep(_TICK)
            if not self.all_closed:
                for breaker in self._breakers.values():
                    _ = breaker.state

    async def _publish(self, bus: Bus) -> NoReturn:
        while True:
            event = await self._changes.get()
            batch = event_pb.EventBatch(events=[event]).SerializeToString()
            await bus.wait_ready()
            try:
                subject = subject_of(event.provider, enum_names.CHANNEL.word(event.channel))
                await bus.publish(subject, batch, message_id=event.id)
            except BUS_ERRORS as error:
                _log.warning("breaker_event_lost", error=repr(error))
