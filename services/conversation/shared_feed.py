"""A durable consumer of events that all processes share: each event goes to one of them, at least once.

What is learned from events can be learned from the ledger again. So when the broker has lost the consumer
with its store, the ledger is read before a new one is made, and nothing that nobody has handled is missed.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

import nats.errors
import nats.js.errors
from google.protobuf.message import DecodeError
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from posthouse.v1 import event_pb2 as event_pb
from services.kit.bus import BUS_ERRORS, Bus
from services.kit.errors import UnavailableError
from services.kit.logs import get_logger

_log = get_logger(__name__)

_STREAM = "EVENTS"
_FETCH = 32
_FETCH_WAIT = 5.0
_ACK_WAIT = 60.0
# Messages handled together, and seconds until a database that is away is tried again.
_CHUNK = 500
_PATIENCE = 1.0

Handle = Callable[[Sequence[str]], Awaitable[None]]


class SharedFeed:
    """Hands the ids of messages that something happened to on, and acknowledges them when that is done."""

    def __init__(
        self,
        bus: Bus,
        name: str,
        subjects: Sequence[str],
        *,
        handle: Handle,
        catch_up: Callable[[], Awaitable[None]],
        start: datetime | None = None,
    ) -> None:
        """Consume nothing yet. `start`: what was published before matters to nobody."""
        self._bus = bus
        self._name = name
        self._subjects = list(subjects)
        self._handle = handle
        self._catch_up = catch_up
        self._start = start

    async def run(self) -> None:
        """Consume for ever; cancel to stop. The broker and the database may come and go."""
        while True:
            await self._bus.wait_ready()
            try:
                subscription = await self._subscribe()
                try:
                    while self._bus.connected:
                        await self._fetch_once(subscription)
                finally:
                    # The connection would keep it, and there is a new one after every failure.
                    with contextlib.suppress(*BUS_ERRORS):
                        await subscription.unsubscribe()
            except BUS_ERRORS as error:
                _log.debug("feed_interrupted", feed=self._name, error=repr(error))
                await asyncio.sleep(_PATIENCE)
            except UnavailableError:
                await asyncio.sleep(_PATIENCE)

    async def _subscribe(self) -> JetStreamContext.PullSubscription:
        jetstream = self._bus.jetstream
        try:
            await jetstream.consumer_info(_STREAM, self._name)
        except nats.js.errors.NotFoundError:
            await self._catch_up()
            await jetstream.add_consumer(
                _STREAM,
                ConsumerConfig(
                    durable_name=self._name,
                    filter_subjects=self._subjects,
                    ack_policy=AckPolicy.EXPLICIT,
                    deliver_policy=DeliverPolicy.BY_START_TIME if self._start else DeliverPolicy.ALL,
                    opt_start_time=self._start,
                    ack_wait=_ACK_WAIT,
                    max_ack_pending=1000,
                ),
            )
        return await jetstream.pull_subscribe_bind(durable=self._name, stream=_STREAM)

    async def _fetch_once(self, subscription: JetStreamContext.PullSubscription) -> None:
        try:
            messages = await subscription.fetch(_FETCH, timeout=_FETCH_WAIT)
        except (nats.errors.TimeoutError, TimeoutError):
            await subscription.consumer_info()  # raises when the server has lost the consumer with its store
            return
        try:
            await self._handle_all(messages)
        except UnavailableError:
            await _give_back(messages)
            raise
        except Exception:  # noqa: BLE001 - found out one by one
            await self._handle_singly(messages)
        for message in messages:
            await message.ack()

    async def _handle_all(self, messages: Sequence[Msg]) -> None:
        found = dict.fromkeys(message_id for message in messages for message_id in _read(message))
        ids = list(found)
        for start in range(0, len(ids), _CHUNK):
            await self._handle(ids[start : start + _CHUNK])

    async def _handle_singly(self, messages: Sequence[Msg]) -> None:
        """Leave out what cannot be handled: it would come again and again, and hold up its neighbours."""
        for message in messages:
            try:
                await self._handle_all([message])
            except UnavailableError:
                await _give_back(messages)
                raise
            except Exception:  # noqa: BLE001 - said once
                _log.exception("event_refused", feed=self._name, subject=message.subject)


async def _give_back(messages: Sequence[Msg]) -> None:
    """Have messages delivered again at once, rather than when the time to acknowledge them is over."""
    with contextlib.suppress(*BUS_ERRORS):
        for message in messages:
            await message.nak()


def _read(message: Msg) -> list[str]:
    batch = event_pb.EventBatch()
    try:
        batch.ParseFromString(message.data)
    except DecodeError:
        _log.error("event_unreadable", subject=message.subject, size=len(message.data))
        return []
    return [event.message_id for event in batch.events if event.message_id]
