"""Reads a JetStream stream as a log: its tail by one consumer, older parts in pages that need none."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import nats.errors
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from services.kit.bus import Bus

# Seconds between the heartbeats of the consumer, and without any until it is taken for lost.
_HEARTBEAT, _SILENCE = 2.0, 7.0
# Seconds after which the server forgets a consumer that nobody listens to.
_FORGET = 30.0
_TIMEOUT = 5.0
_PAGE_BYTES = 4 * 1024 * 1024

_CONTROL, _END_OF_BATCH, _NOT_FOUND = "100", "204", "404"


class TailLostError(Exception):
    """The consumer of the tail has skipped something, or was lost; begin again after what was read."""


@dataclass(frozen=True, slots=True)
class LogState:
    """What a log holds: its epoch (milliseconds of its creation), and its first and last sequence.

    `first` is `last + 1` when the log is empty.
    """

    epoch: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Stored:
    """One message of the log."""

    sequence: int
    subject: str
    payload: bytes


class StreamLog:
    """One stream. Calls raise BUS_ERRORS while the broker is away."""

    def __init__(self, bus: Bus, stream: str) -> None:
        self._bus = bus
        self._stream = stream
        self._connections = 0
        self._something = asyncio.Event()
        bus.on_ready(self._connected)

    async def state(self) -> LogState:
        """Return what the log holds now."""
        info = await self._bus.jetstream.stream_info(self._stream)
        created = info.created.timestamp() if info.created else 0.0
        first = info.state.first_seq if info.state.messages else info.state.last_seq + 1
        return LogState(round(created * 1000), first, info.state.last_seq)

    async def page(self, sequence: int, most: int) -> list[Stored]:
        """Return up to `most` messages from a sequence on, fewer when they are large; none at the end."""
        client = self._bus.client
        found: list[Stored] = []
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def receive(message: Msg) -> None:
            headers = message.headers or {}
            status = headers.get("Status")
            if not status:
                found.append(Stored(int(headers["Nats-Sequence"]), headers["Nats-Subject"], message.data))
            elif not ended.done():
                if status in {_END_OF_BATCH, _NOT_FOUND}:
                    ended.set_result(None)
                else:
                    ended.set_exception(nats.errors.Error(f"the stream cannot be read: {status}"))

        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox, cb=receive)
        try:
            request = {"seq": sequence, "batch": most, "max_bytes": _PAGE_BYTES}
            await client.publish(
                f"$JS.API.DIRECT.GET.{self._stream}", json.dumps(request).encode(), reply=inbox
            )
            async with asyncio.timeout(_TIMEOUT):
                await ended
        finally:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()
        return found

    async def tail(self, sequence: int) -> AsyncGenerator[list[Stored]]:
        """Yield what the log holds from a sequence on, and then what is added, in order and without gaps.

        Raises TailLostError when that cannot be kept up.
        """
        client = self._bus.client
        arrived: list[Msg] = []
        connections, something = self._connections, self._something

        async def receive(message: Msg) -> None:
            arrived.append(message)
            something.set()

        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox, cb=receive)
        name = None
        try:
            info = await self._bus.jetstream.add_consumer(
                self._stream,
                ConsumerConfig(
                    deliver_subject=inbox,
                    deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                    opt_start_seq=max(sequence, 1),
                    ack_policy=AckPolicy.NONE,
                    max_deliver=1,
                    idle_heartbeat=_HEARTBEAT,
                    flow_control=True,
                    inactive_threshold=_FORGET,
                    mem_storage=True,
                    num_replicas=1,
                ),
            )
            name = info.name
            read = 0
            while True:
                try:
                    async with asyncio.timeout(_SILENCE):
                        await something.wait()
                except TimeoutError:
                    raise TailLostError from None
                something.clear()
                if self._connections != connections:  # the server may have forgotten the consumer
                    raise TailLostError
                messages = arrived[:]
                arrived.clear()
                found = []
                for message in messages:
                    if (message.headers or {}).get("Status") == _CONTROL:
                        await self._control(message, read)
                        continue
                    place = message.metadata.sequence
                    if place.consumer != read + 1:
                        raise TailLostError
                    read += 1
                    found.append(Stored(place.stream, message.subject, message.data))
                if found:
                    yield found
        finally:
            with contextlib.suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()
            if name is not None and client.is_connected:
                with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
                    await self._bus.jetstream.delete_consumer(self._stream, name)

    def _connected(self) -> None:
        self._connections += 1
        self._something.set()

    async def _control(self, message: Msg, read: int) -> None:
        """Answer the server's flow control, and check by its heartbeat that nothing was lost on the way."""
        headers = message.headers or {}
        stalled = headers.get("Nats-Consumer-Stalled")
        if message.reply or stalled:
            await self._bus.client.publish(message.reply or stalled or "", b"")
        elif int(headers.get("Nats-Last-Consumer", read)) > read:
            raise TailLostError
