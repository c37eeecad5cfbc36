"""Dispatchers whose cool-downs end in the same moment make one round of probes, not one each."""

import asyncio
import time
from typing import Any

import pytest
from prometheus_client import REGISTRY

from posthouse.v1 import event_pb2 as event_pb
from services.dispatch import breakers as breakers_module
from services.dispatch.breakers import Breakers
from services.kit.breaker import CLOSED, HALF_OPEN, OPEN, BreakerPolicy
from services.kit.breaker_news import HALF_OPENED, OPENED
from tests.clock import Clock

_COOL_DOWN = 600.0


class FakeBus:
    """The newest message of one subject, and what is published there."""

    connected = True

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    async def last(self, _stream: str, _subject: str) -> tuple[int, bytes] | None:
        return (len(self.messages), self.messages[-1]) if self.messages else None

    async def publish(self, _subject: str, payload: bytes, **_: Any) -> None:
        self.messages.append(payload)

    def say(self, event: event_pb.Event) -> None:
        self.messages.append(event_pb.EventBatch(events=[event]).SerializeToString())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breakers(clock: Clock) -> Breakers:
    policy = BreakerPolicy(consecutive_failures=1, cool_down=_COOL_DOWN, probes=5)
    return Breakers({"sms": ["scripted"]}, policy, clock=clock, shared=True)


def _news(number: int, kind: str) -> event_pb.Event:
    event = event_pb.Event(id=f"another.{number}", type=kind, channel="CHANNEL_SMS", provider="scripted")
    event.create_time.FromMicroseconds(int(time.time() * 1_000_000))
    return event


async def _settled(breakers: Breakers, bus: FakeBus) -> None:
    """Let the dispatcher ask for leave, until it has nothing more to ask."""
    seeking = asyncio.create_task(breakers._seek_leave(bus))  # type: ignore[arg-type]
    for _ in range(20):
        await asyncio.sleep(0)
    seeking.cancel()


async def test_a_verdict_that_comes_before_its_turn_begins_a_new_cool_down(
    breakers: Breakers, clock: Clock
) -> None:
    bus = FakeBus()
    breaker = breakers.of("scripted", "sms")
    breaker.record(successes=0, failures=1)
    clock.now += _COOL_DOWN
    assert breaker.state == OPEN
    # It is to ask. The other's round comes first, and fails.
    for number, kind in enumerate([HALF_OPENED, OPENED]):
        bus.say(_news(number, kind))
        breakers.hear(_news(number, kind))
    await _settled(breakers, bus)
    assert breaker.state == OPEN
    assert len(bus.messages) == 2
    # When its new cool-down is over it is its turn.
    clock.now += _COOL_DOWN
    assert breaker.state == OPEN
    await _settled(breakers, bus)
    assert breaker.state == HALF_OPEN
    assert len(bus.messages) == 3


async def test_a_recovery_that_comes_before_its_turn_is_not_tried_out(
    breakers: Breakers, clock: Clock
) -> None:
    bus = FakeBus()
    breaker = breakers.of("scripted", "sms")
    breaker.record(successes=0, failures=1)
    clock.now += _COOL_DOWN
    assert breaker.state == OPEN
    bus.say(_news(1, "closed"))
    breakers.hear(_news(1, "closed"))
    await _settled(breakers, bus)
    assert breaker.state == CLOSED
    assert len(bus.messages) == 1


async def test_the_metrics_show_a_state_within_half_a_second(clock: Clock) -> None:
    policy = BreakerPolicy(consecutive_failures=1, cool_down=_COOL_DOWN, probes=5)
    breakers = Breakers({"sms": ["watched"]}, policy, clock=clock)

    def shown() -> float | None:
        return REGISTRY.get_sample_value("posthouse_breaker_state", {"provider": "watched", "channel": "sms"})

    assert shown() == 0.0
    breakers.of("watched", "sms").record(successes=0, failures=1)
    # What an outcome does shows at once, here and in ListProviders.
    assert (shown(), breakers.state("watched", "sms")) == (2.0, OPEN)
    clock.now += _COOL_DOWN
    # What time alone does, with the next tick, though nobody asks.
    assert breakers_module._TICK <= 0.5
    ticking = asyncio.create_task(breakers._tick())
    async with asyncio.timeout(60):
        while shown() == 2.0:  # noqa: ASYNC110 - no event tells of a gauge
            await asyncio.sleep(breakers_module._TICK)
    assert shown() == 1.0
    ticking.cancel()
