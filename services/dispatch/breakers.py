"""The breakers of all routed providers: what moves them is logged, counted, and told to other dispatchers."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NoReturn

from google.protobuf.message import DecodeError

from posthouse.v1 import event_pb2 as event_pb
from services.kit import enum_names, metrics
from services.kit.breaker import CLOSED, HALF_OPEN, OPEN, Breaker, BreakerPolicy
from services.kit.bus import BUS_ERRORS, Bus
from services.kit.ids import new_id
from services.kit.logs import get_logger
from services.ledger.event_batches import make_timestamp

_log = get_logger(__name__)

# On the EVENTS stream; other dispatchers hear it as it is published, and need no consumer for that.
SUBJECT: Final = "posthouse.event.provider.breaker"

# Types of the events, by the state they tell of.
_TYPES: Final = {OPEN: "opened", HALF_OPEN: "half_open", CLOSED: "closed"}
_LEVELS: Final = {CLOSED: 0, HALF_OPEN: 1, OPEN: 2}

# Seconds between looks at what time alone moves.
_TICK = 0.25
# Changes that wait to be published; while the bus is away, more than that are only logged.
_QUEUE_SIZE = 1000


class Breakers:
    """One breaker per provider and channel. `clock` returns monotonic seconds."""

    def __init__(
        self,
        routing: Mapping[str, Sequence[str]],
        policy: BreakerPolicy,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # Which of the events that are heard are our own.
        self._instance = new_id()
        self._count = 0
        self._hearing = False
        self._changes: asyncio.Queue[event_pb.Event] = asyncio.Queue(_QUEUE_SIZE)
        self._breakers = {
            (name, channel): Breaker(policy, clock=clock, on_change=self._observer(name, channel))
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
            group.create_task(self._listen(bus))

    def _observer(self, provider: str, channel: str) -> Callable[[str], None]:
        def changed(state: str) -> None:
            self.all_closed = all(breaker.last_state == CLOSED for breaker in self._breakers.values())
            metrics.BREAKER_STATE.labels(provider, channel).set(_LEVELS[state])
            say = _log.warning if state == OPEN else _log.info
            say(f"breaker_{_TYPES[state]}", provider=provider, channel=channel, told=self._hearing)
            if not self._hearing:
                self._enqueue(provider, channel, state)

        return changed

    def _enqueue(self, provider: str, channel: str, state: str) -> None:
        self._count += 1
        event = event_pb.Event(
            id=f"{self._instance}.{self._count}",
            type=_TYPES[state],
            create_time=make_timestamp(datetime.now(UTC)),
            channel=enum_names.CHANNEL.number(channel),
            provider=provider,
        )
        if not self._changes.full():
            self._changes.put_nowait(event)

    def hear(self, payload: bytes) -> None:
        """Follow what another dispatcher has found out."""
        try:
            events = event_pb.EventBatch.FromString(payload).events
        except DecodeError:
            return
        for event in events:
            breaker = self.find(event.provider, enum_names.CHANNEL.word(event.channel))
            if breaker is None or event.id.startswith(self._instance):
                continue
            self._hearing = True
            try:
                # Each finds out by itself when to probe.
                if event.type == _TYPES[OPEN]:
                    breaker.trip()
                elif event.type == _TYPES[CLOSED]:
                    breaker.reset()
            finally:
                self._hearing = False

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
                await bus.publish(SUBJECT, batch, message_id=event.id)
            except BUS_ERRORS as error:
                _log.warning("breaker_event_lost", error=repr(error))

    async def _listen(self, bus: Bus) -> None:
        while True:
            try:
                await bus.listen(SUBJECT, self.hear)
            except BUS_ERRORS:
                await asyncio.sleep(_TICK)
            else:
                return
