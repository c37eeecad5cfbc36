"""News of circuit breakers, as dispatchers publish them: the last of each is kept, and can be learnt."""

import asyncio
import re
import time
from collections.abc import Callable, Iterable
from typing import Final, NoReturn

from google.protobuf.message import DecodeError

from posthouse.v1 import event_pb2 as event_pb
from services.kit.bus import BUS_ERRORS, Bus

# On the EVENTS stream, followed by the channel and the provider.
SUBJECT: Final = "posthouse.event.provider.breaker"
STREAM: Final = "EVENTS"

OPENED: Final = "opened"
HALF_OPENED: Final = "half_open"
CLOSED: Final = "closed"

_NO_TOKEN: Final = re.compile("[^A-Za-z0-9_-]")
_RETRY: Final = 0.25


def subject_of(provider: str, channel: str) -> str:
    """Return the subject of the news of a provider and channel."""
    return f"{SUBJECT}.{channel}.{_NO_TOKEN.sub('_', provider)}"


def read_news(payload: bytes) -> list[event_pb.Event]:
    """Return the events in a payload; none when it is no batch of events."""
    try:
        return list(event_pb.EventBatch.FromString(payload).events)
    except DecodeError:
        return []


def age_of(event: event_pb.Event) -> float:
    """Return how many seconds ago something happened, never less than 0."""
    return max(0.0, time.time() - event.create_time.ToMicroseconds() / 1_000_000)


async def follow_breakers(
    bus: Bus, places: Iterable[tuple[str, str]], hear: Callable[[event_pb.Event], None]
) -> NoReturn:
    """Have `hear` called with the last news of each (provider, channel), and with all that follow.

    After each reconnection the last are heard again; cancel to end it.
    """
    known = list(places)
    ready = asyncio.Event()
    bus.on_ready(ready.set)
    listening = False

    def receive(payload: bytes) -> None:
        for event in read_news(payload):
            hear(event)

    while True:
        await bus.wait_ready()
        ready.clear()
        try:
            if not listening:
                await bus.listen(f"{SUBJECT}.>", receive)
                listening = True
            for provider, channel in known:
                last = await bus.last(STREAM, subject_of(provider, channel))
                if last is not None:
                    receive(last[1])
        except BUS_ERRORS:
            await asyncio.sleep(_RETRY)
        else:
            await ready.wait()
