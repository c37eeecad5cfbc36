"""Takes messages off a durable pull consumer as they come, with one request open at all times."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import nats.errors
import orjson
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig

from services.kit.bus import Bus

# Messages a request asks for; seconds the server keeps it, and between its words that it still does.
_BATCH: Final = 64
_EXPIRES: Final = 30
_HEARTBEAT: Final = 5
_NANOSECONDS: Final = 1_000_000_000
# Seconds without a word of the server after which the request is taken for lost.
_SILENCE: Final = 2.5 * _HEARTBEAT

_REQUEST: Final = orjson.dumps(
    {"batch": _BATCH, "expires": _EXPIRES * _NANOSECONDS, "idle_heartbeat": _HEARTBEAT * _NANOSECONDS}
)

# What the server says of a request: it is alive; it has expired. Anything else ends the consumer's use.
_ALIVE: Final = "100"
_EXPIRED: Final = "408"


class ConsumerLostError(nats.errors.Error):
    """The connection was lost, or the server no longer knows the consumer."""


class _Request:
    """An open request: what is still to come of it."""

    def __init__(self) -> None:
        self._left = 0
        self._heard = False
        self._lost = False
        self._ended = asyncio.Event()

    def open(self) -> None:
        """Begin to count anew."""
        self._left = _BATCH
        self._ended.clear()

    def lose(self) -> None:
        """Note that no answer will come any more."""
        self._lost = True
        self._ended.set()

    def note(self, status: str | None) -> None:
        """Note a message, or what the server says of the request."""
        self._heard = True
        if status is None:
            self._left -= 1
            if not self._left:
                self._ended.set()
        elif status == _EXPIRED:
            self._ended.set()
        elif status != _ALIVE:
            self.lose()

    async def wait(self) -> None:
        """Return when another request may be made; raise ConsumerLostError when none would be answered."""
        while not self._lost:
            self._heard = False
            try:
                async with asyncio.timeout(_SILENCE):
                    await self._ended.wait()
            except TimeoutError:
                self._lost = not self._heard
            else:
                if not self._lost:
                    return
        raise ConsumerLostError


async def pull(
    bus: Bus,
    *,
    stream: str,
    consumer: ConsumerConfig,
    take: Callable[[Msg], Awaitable[None]],
    room: Callable[[], Awaitable[None]],
) -> None:
    """Hand over each message of a durable consumer; ask for more once there is `room`.

    The consumer is made if it is not there. Ends only with one of BUS_ERRORS, when the connection or the
    consumer is lost; what was not acknowledged comes again. The client library's own fetch makes up to two
    requests for every message that comes alone.
    """
    request = _Request()

    async def receive(message: Msg) -> None:
        status = None if message.headers is None else message.headers.get("Status")
        request.note(status)
        if status is None:
            await take(message)

    async with bus.inbox(receive, lost=request.lose) as inbox:
        await bus.jetstream.add_consumer(stream, consumer)
        while True:
            await room()
            request.open()
            await bus.ask(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer.durable_name}", _REQUEST, inbox)
            await request.wait()
