"""The conveyor: a NATS JetStream connection that may come and go without losing anything.

What must not be lost is in PostgreSQL before it is published here, so a broken connection, or a
server whose store was deleted, costs seconds and never messages.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from services.kit.logs import get_logger

_log = get_logger(__name__)

# What a publish, fetch or API call may raise while the server is away or has lost its store.
BUS_ERRORS = (nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError, asyncio.InvalidStateError)

_DAY = 86_400.0
_PUBLISH_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class BusConfig:
    """Where the servers are and how the connection is named in their monitoring."""

    servers: list[str]
    name: str
    replicas: int = 1


def stream_configs(replicas: int) -> list[StreamConfig]:
    """Return the streams of Posthouse. `duplicate_window` is in seconds."""
    return [
        StreamConfig(
            name="DISPATCH",
            subjects=["posthouse.dispatch.>"],
            retention=RetentionPolicy.WORK_QUEUE,
            discard=DiscardPolicy.NEW,  # the client's default, OLD, would silently drop work
            max_bytes=1 << 30,
            duplicate_window=120.0,
            storage=StorageType.FILE,
            num_replicas=replicas,
        ),
        StreamConfig(
            name="EVENTS",
            subjects=["posthouse.event.>"],
            retention=RetentionPolicy.LIMITS,
            discard=DiscardPolicy.OLD,
            max_age=7 * _DAY,
            max_bytes=4 << 30,
            # Longer than a sweep is late, short of an outage that lasts: see docs/watching.md.
            duplicate_window=600.0,
            # Watchers that resume read it in pages, without a consumer each.
            allow_direct=True,
            storage=StorageType.FILE,
            num_replicas=replicas,
        ),
        StreamConfig(
            name="DEADLETTER",
            subjects=["posthouse.deadletter.>"],
            retention=RetentionPolicy.LIMITS,
            discard=DiscardPolicy.OLD,
            max_age=30 * _DAY,
            max_bytes=1 << 30,
            duplicate_window=120.0,
            storage=StorageType.FILE,
            num_replicas=replicas,
        ),
    ]


class Bus:
    """One connection of one process. `start` returns at once; the connection follows when it can."""

    def __init__(self, config: BusConfig) -> None:
        self._config = config
        self._client = Client()
        self._connector: asyncio.Task[None] | None = None
        self._restorer: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        # Why the last tries to connect failed; each reason is logged once.
        self._complaints: set[str] = set()
        self._on_ready: list[Callable[[], None]] = []
        self._on_lost: set[Callable[[], None]] = set()
        self.jetstream: JetStreamContext

    def on_ready(self, callback: Callable[[], None]) -> None:
        """Call back each time the connection stands and the streams exist."""
        self._on_ready.append(callback)

    async def start(self) -> None:
        """Begin to connect in the background, for as long as it takes."""
        self._connector = asyncio.create_task(self._connect(), name="bus-connect")

    async def close(self) -> None:
        """Flush what was published and close."""
        for task in (self._connector, self._restorer):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        if self._client.is_connected:
            with contextlib.suppress(*BUS_ERRORS):
                await asyncio.wait_for(self._client.flush(), 2)
        with contextlib.suppress(*BUS_ERRORS):
            await self._client.close()

    @property
    def client(self) -> Client:
        """The connection itself, for what only reads."""
        return self._client

    @property
    def connected(self) -> bool:
        """Tell whether the connection stands and the streams exist."""
        return self._client.is_connected and self._ready.is_set()

    async def answers(self) -> bool:
        """Tell the same to a health check."""
        return self.connected

    async def wait_ready(self) -> None:
        """Wait until the connection stands and the streams exist."""
        await self._ready.wait()

    async def last(self, stream: str, subject: str) -> tuple[int, bytes] | None:
        """Return the sequence and the payload of the newest message of a subject, None when there is none."""
        try:
            found = await self.jetstream.get_last_msg(stream, subject)
        except nats.js.errors.NotFoundError:
            return None
        return found.seq or 0, found.data or b""

    async def publish(
        self,
        subject: str,
        payload: bytes,
        *,
        message_id: str,
        after: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Publish and wait until JetStream has stored it, or raise one of BUS_ERRORS.

        A repeat with the same message_id within the stream's duplicate window is stored once. With `after`,
        it is refused (BadRequestError) unless the subject's newest message has that sequence; 0: has none.
        """
        sent = {"Nats-Msg-Id": message_id, "Content-Type": "application/protobuf", **(headers or {})}
        if after is not None:
            sent["Nats-Expected-Last-Subject-Sequence"] = str(after)
        if not self.connected:
            raise nats.errors.ConnectionClosedError
        try:
            await self.jetstream.publish(
                subject,
                payload,
                timeout=_PUBLISH_TIMEOUT,
                headers=sent,
            )
        except nats.js.errors.NoStreamResponseError:
            # Somebody has deleted the streams under a living server: no reconnection will follow.
            if self._ready.is_set():
                _log.warning("bus_streams_gone", subject=subject)
                self._ready.clear()
                self._restorer = asyncio.create_task(self._ensure_streams(), name="bus-streams")
            raise

    @contextlib.asynccontextmanager
    async def inbox(
        self, receive: Callable[[Msg], Awaitable[None]], *, lost: Callable[[], None]
    ) -> AsyncIterator[str]:
        """Yield a subject of our own whose messages `receive` gets, until the connection is `lost`."""
        subject = self._client.new_inbox()
        subscription = await self._client.subscribe(subject, cb=receive)
        self._on_lost.add(lost)
        try:
            yield subject
        finally:
            self._on_lost.discard(lost)
            with contextlib.suppress(*BUS_ERRORS):
                await subscription.unsubscribe()

    async def ask(self, subject: str, payload: bytes, inbox: str) -> None:
        """Publish what is answered to an inbox."""
        if not self.connected:
            raise nats.errors.ConnectionClosedError
        await self._client.publish(subject, payload, reply=inbox)

    async def listen(self, subject: str, hear: Callable[[bytes], None]) -> None:
        """Have `hear` called with every payload published on a subject from now on, over reconnections.

        What is published while the connection is away is not heard.
        """

        async def receive(message: Msg) -> None:
            hear(message.data)

        await self.wait_ready()
        await self._client.subscribe(subject, cb=receive)

    async def _connect(self) -> None:
        await self._client.connect(
            servers=self._config.servers,
            name=self._config.name,
            reconnect_time_wait=0.25,  # type: ignore[arg-type]
            max_reconnect_attempts=-1,
            connect_timeout=2,
            ping_interval=5,
            max_outstanding_pings=2,
            disconnected_cb=self._disconnected,
            reconnected_cb=self._reconnected,
            error_cb=self._failed,
            skip_subject_validation=True,
        )
        self.jetstream = self._client.jetstream(timeout=5)
        await self._ensure_streams()

    async def _disconnected(self) -> None:
        if self._ready.is_set():
            _log.warning("bus_disconnected")
        self._ready.clear()
        for lost in tuple(self._on_lost):
            lost()

    async def _reconnected(self) -> None:
        _log.info("bus_reconnected")
        await self._ensure_streams()

    async def _failed(self, error: Exception) -> None:
        if not self._client.is_connected and repr(error) not in self._complaints:
            self._complaints.add(repr(error))
            _log.warning("bus_not_reached", error=repr(error))
        else:
            _log.debug("bus_error", error=repr(error))

    async def _ensure_streams(self) -> None:
        """Create or update the streams until the server agrees; a restarted one needs a moment."""
        while self._client.is_connected:
            try:
                for config in stream_configs(self._config.replicas):
                    await self._ensure_stream(config)
            except BUS_ERRORS as error:
                _log.warning("bus_streams_not_ready", error=repr(error))
                await asyncio.sleep(0.25)
            else:
                self._ready.set()
                self._complaints.clear()
                for callback in self._on_ready:
                    callback()
                return

    async def _ensure_stream(self, config: StreamConfig) -> None:
        try:
            await self.jetstream.update_stream(config)
        except nats.js.errors.NotFoundError:
            await self.jetstream.add_stream(config)
