"""The durable consumer that processes share, while what it hands events to cannot work."""

import asyncio
from collections.abc import Sequence

import pytest

from posthouse.v1 import event_pb2 as event_pb
from services.conversation import shared_feed
from services.conversation.shared_feed import SharedFeed
from services.kit.bus import Bus
from services.kit.cancelling import cancel_all
from services.kit.errors import UnavailableError
from tests.integration.ledger.rows import eventually

pytestmark = pytest.mark.integration

SUBJECT = "posthouse.event.message.received"


async def test_a_feed_whose_database_is_away_leaves_nothing_behind(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_feed, "_PATIENCE", 0.01)
    failures, handled = 5, asyncio.Event()

    async def handle(message_ids: Sequence[str]) -> None:
        nonlocal failures
        assert list(message_ids) == ["m-1"]
        if failures:
            failures -= 1
            raise UnavailableError("PostgreSQL is away")
        handled.set()

    async def nothing() -> None:
        return

    # Longer than the test waits: what was not handled must come again without it.
    monkeypatch.setattr(shared_feed, "_ACK_WAIT", 3600.0)
    feed = SharedFeed(bus, "test", [SUBJECT], handle=handle, catch_up=nothing)
    payload = event_pb.EventBatch(events=[event_pb.Event(message_id="m-1")]).SerializeToString()
    await bus.publish(SUBJECT, payload, message_id="1")
    before = _subscriptions(bus)
    task = asyncio.create_task(feed.run())
    try:
        await asyncio.wait_for(handled.wait(), 120)

        async def acknowledged() -> bool:
            info = await bus.jetstream.consumer_info("EVENTS", "test")
            return info.num_ack_pending == 0

        await eventually(acknowledged)
        assert _subscriptions(bus) <= before + 1
    finally:
        await cancel_all([task])
    assert _subscriptions(bus) == before


def _subscriptions(bus: Bus) -> int:
    return len(bus.client._subs)
