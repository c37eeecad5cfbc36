"""A conversation process on a broker of its own, and events published as the relay publishes them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from posthouse.v1 import conversation_service_pb2 as pb
from posthouse.v1 import conversation_service_pb2_grpc as pb_grpc
from posthouse.v1 import event_pb2 as event_pb
from services.conversation.__main__ import main
from services.kit.bus import Bus, BusConfig
from services.kit.client import open_channel
from services.kit.config import Settings
from services.kit.ids import new_id
from services.ledger.event_batches import EncodedEvent, encode_event, group_by_subject
from tests.servers import free_ports

OURS, CONTACT, OTHER = "+15551234567", "+15559876543", "+15550001111"
CONVERSATION = "89997e8c-b501-515f-8819-ecb46925d0fb"
ANOTHER = "11111111-b501-515f-8819-ecb46925d0fb"


def event(
    kind: str, *, message_id: str | None = None, sequence: int = 1, contact: str = CONTACT, **fields: Any
) -> event_pb.Event:
    """Return an event of a message, of a new one unless told otherwise."""
    encoded = encode_event(
        message_id=message_id or new_id(),
        sequence=sequence,
        type=kind,
        create_time=datetime.now(UTC),
        channel="sms",
        direction="outbound",
        sender=OURS,
        recipient=contact,
        **{"conversation_id": CONVERSATION if contact == CONTACT else ANOTHER, **fields},
    )
    return event_pb.Event.FromString(encoded.payload)


class Publisher:
    """Publishes batches."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def publish(self, *events: event_pb.Event, message_id: str = "") -> None:
        """Publish events as one transaction's."""
        for subject, payload in group_by_subject(
            EncodedEvent(one.type, one.SerializeToString()) for one in events
        ):
            await self._bus.publish(subject, payload, message_id=message_id or new_id())


@contextlib.asynccontextmanager
async def publishing(nats_url: str) -> AsyncIterator[Publisher]:
    """Yield a publisher that is connected."""
    bus = Bus(BusConfig([nats_url], "test"))
    await bus.start()
    await asyncio.wait_for(bus.wait_ready(), 60)
    yield Publisher(bus)
    await bus.close()


class Running:
    """A conversation process within this one."""

    def __init__(self, settings: Settings, stub: Any, stop: asyncio.Event) -> None:
        self.settings = settings
        self.stub = stub
        self.stop = stop

    def watch(self, after: str = "", **fields: Any) -> "Watch":
        """Begin to watch."""
        return Watch(self.stub.WatchEvents(pb.WatchEventsRequest(after_event_id=after, **fields)))


class Watch:
    """One stream, as its client sees it."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.position = ""

    async def response(self) -> pb.WatchEventsResponse:
        """Return the next response, whatever it is."""
        async with asyncio.timeout(60):
            response: pb.WatchEventsResponse = await self.call.read()
        self.position = response.event_id
        return response

    async def next(self) -> event_pb.Event:
        """Return the next event; heartbeats are passed over, a gap fails."""
        while True:
            response = await self.response()
            assert not response.HasField("gap")
            if response.HasField("event"):
                return response.event

    async def take(self, count: int) -> list[str]:
        """Return the ids of the next events."""
        return [(await self.next()).id for _ in range(count)]

    def leave(self) -> str:
        """Leave, and return where to resume."""
        self.call.cancel()
        return self.position


@contextlib.asynccontextmanager
async def running_conversation(database_url: str, nats_url: str, **overrides: Any) -> AsyncIterator[Running]:
    """Yield a running process."""
    settings = Settings.model_validate(
        {
            "database_url": database_url,
            "nats_url": nats_url,
            "grpc_port": free_ports(2),
            "rate_limit_enabled": False,
            "watch_heartbeat": 0.2,
            **overrides,
        }
    )
    stop = asyncio.Event()
    process = asyncio.create_task(main(settings, stop))
    try:
        async with open_channel(settings.conversation_target) as channel:
            await asyncio.wait_for(channel.channel_ready(), 60)
            yield Running(settings, pb_grpc.ConversationServiceStub(channel), stop)
            stop.set()
            await asyncio.wait_for(asyncio.shield(process), 60)
    finally:
        stop.set()
        await asyncio.wait_for(process, 60)
