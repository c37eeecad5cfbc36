"""Pulling from a durable consumer: in order, over expiry and flow control, and an end that is noticed."""

import asyncio

import nats.js.errors
import pytest
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

from services.kit import pulling
from services.kit.bus import BUS_ERRORS, Bus
from services.kit.pulling import ConsumerLostError, pull
from tests.servers import NatsForTests

pytestmark = pytest.mark.integration

CONSUMER = ConsumerConfig(
    durable_name="probe", filter_subject="posthouse.dispatch.probe", ack_policy=AckPolicy.EXPLICIT
)


class Sink:
    """Takes messages; `wanted` says how many it has room for."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.room = asyncio.Event()
        self.room.set()
        self.asked_for_room = asyncio.Event()
        self._changed = asyncio.Condition()

    async def take(self, message: Msg) -> None:
        async with self._changed:
            self.got.append(message.data)
            self._changed.notify_all()
        await message.ack()

    async def have_room(self) -> None:
        self.asked_for_room.set()
        await self.room.wait()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(60), self._changed:
            await self._changed.wait_for(lambda: len(self.got) >= count)


def start(bus: Bus, sink: Sink) -> "asyncio.Task[None]":
    return asyncio.create_task(
        pull(bus, stream="DISPATCH", consumer=CONSUMER, take=sink.take, room=sink.have_room)
    )


async def publish(bus: Bus, *bodies: bytes) -> None:
    for body in bodies:
        await bus.publish("posthouse.dispatch.probe", body, message_id=body.decode())


async def test_more_than_a_request_holds_comes_in_order(bus: Bus) -> None:
    sink = Sink()
    task = start(bus, sink)
    bodies = [b"%03d" % number for number in range(3 * pulling._BATCH + 5)]
    await publish(bus, *bodies)
    await sink.until(len(bodies))
    assert sink.got == bodies
    task.cancel()


async def test_nothing_is_asked_for_without_room(bus: Bus) -> None:
    sink = Sink()
    sink.room.clear()
    task = start(bus, sink)
    await publish(bus, b"early")
    async with asyncio.timeout(60):
        await sink.asked_for_room.wait()
    # An answer of the server comes after all that it was asked before.
    info = await bus.jetstream.consumer_info("DISPATCH", "probe")
    assert (info.num_waiting, info.num_pending) == (0, 1)
    sink.room.set()
    await sink.until(1)
    task.cancel()


async def test_an_expired_request_is_followed_by_another(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "_REQUEST", b'{"batch": 64, "expires": 100000000}')
    asked: list[str] = []
    ask = bus.ask

    async def counting(subject: str, payload: bytes, inbox: str) -> None:
        asked.append(subject)
        await ask(subject, payload, inbox)

    monkeypatch.setattr(bus, "ask", counting)
    sink = Sink()
    task = start(bus, sink)
    async with asyncio.timeout(60):
        while len(asked) < 3:  # noqa: ASYNC110 - the client tells nobody
            await asyncio.sleep(0.02)
    await publish(bus, b"late")
    await sink.until(1)
    task.cancel()


async def test_a_deleted_consumer_ends_it(bus: Bus) -> None:
    sink = Sink()
    task = start(bus, sink)
    await publish(bus, b"one")
    await sink.until(1)
    await bus.jetstream.delete_consumer("DISPATCH", "probe")
    with pytest.raises(ConsumerLostError):
        await asyncio.wait_for(task, 60)


async def test_a_lost_connection_ends_it(bus: Bus, nats_server: NatsForTests) -> None:
    sink = Sink()
    task = start(bus, sink)
    await publish(bus, b"one")
    await sink.until(1)
    nats_server.kill(delete_store=True)
    with pytest.raises(BUS_ERRORS):
        await asyncio.wait_for(task, 60)


async def test_a_server_that_says_nothing_more_ends_it(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without heartbeats the server is silent, as one is that has forgotten the request.
    monkeypatch.setattr(pulling, "_REQUEST", b'{"batch": 64, "expires": 60000000000}')
    monkeypatch.setattr(pulling, "_SILENCE", 0.2)
    with pytest.raises(ConsumerLostError):
        await asyncio.wait_for(start(bus, Sink()), 60)


async def test_a_missing_stream_ends_it(bus: Bus) -> None:
    with pytest.raises(nats.js.errors.NotFoundError):
        await pull(bus, stream="NOWHERE", consumer=CONSUMER, take=Sink().take, room=Sink().have_room)
