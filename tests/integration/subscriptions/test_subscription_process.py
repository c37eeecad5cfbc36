"""SubscriptionService in its process: from an event on the stream to a request, whatever is killed."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import nats
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from posthouse.v1 import event_pb2, subscription_pb2
from posthouse.v1 import subscription_service_pb2 as pb
from posthouse.v1 import subscription_service_pb2_grpc as pb_grpc
from services.kit.client import open_channel
from services.kit.config import Settings
from services.kit.enum_names import EVENT_DELIVERY
from services.kit.ids import new_id
from tests.integration.learning.conftest import Town
from tests.integration.ledger.rows import Book, eventually
from tests.integration.subscriptions.conftest import Endpoint
from tests.ports import free_ports
from tests.servers import NatsForTests

pytestmark = pytest.mark.integration

_ROOT = Path(__file__).parents[3]


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[tuple[Any, Any]]:
    """Run a conversation process; yield it and a stub of its service."""
    port = free_ports(3)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.conversation",
        cwd=_ROOT,
        env={
            "PYTHONPATH": f"{_ROOT}:{_ROOT / 'gen'}",
            "DATABASE_URL": settings.database_url,
            "NATS_URL": settings.nats_url,
            "POSTHOUSE_GRPC_PORT": str(port),
            "POSTHOUSE_METRICS_PORT": str(free_ports(3)),
            "POSTHOUSE_LOG_LEVEL": "warning",
            "POSTHOUSE_SEARCH_SHARE": "0",
            "POSTHOUSE_SUBSCRIPTION_NETWORKS": "127.0.0.1",
            "POSTHOUSE_SUBSCRIPTION_PORTS": "*",
            # Longer than any test takes: what hangs is not tried again.
            "POSTHOUSE_SUBSCRIPTION_TIMEOUT": "60",
            "POSTHOUSE_SUBSCRIPTION_RETRY_BASE": "0.1",
        },
    )
    try:
        async with open_channel(f"127.0.0.1:{port + 1}") as channel:
            await asyncio.wait_for(channel.channel_ready(), 180)
            yield process, pb_grpc.SubscriptionServiceStub(channel)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture
async def town(settings: Settings) -> AsyncIterator[Town]:
    async with contextlib.AsyncExitStack() as stack:
        town = Town(settings.model_copy(update={"shutdown_grace": 2.0}), stack)
        await town.start()
        yield town


async def test_neither_a_killed_process_nor_a_lost_stream_loses_an_event(
    town: Town, settings: Settings, book: Book, endpoint: Endpoint, nats_server: NatsForTests
) -> None:
    endpoint.hold.clear()

    async def posted() -> bool:
        return len(endpoint.posts) == 1

    async with running(settings) as (process, stub):
        made = await stub.CreateSubscription(pb.CreateSubscriptionRequest(url=endpoint.url))
        subscription_id = made.subscription.id
        await town.says("one")
        await eventually(posted)
        process.kill()
        await process.wait()
    endpoint.hold.set()
    await town.says("two")
    # Published, as far as the ledger knows, and then gone.
    await eventually(lambda: book.value("SELECT count(*) = 0 FROM outbox"))
    nats_server.kill(delete_store=True)
    nats_server.start()
    # The lease of the dead process is over.
    await book.rows("UPDATE event_deliveries SET due_time = now() - interval '1 second'")
    async with running(settings) as (_, stub):
        await eventually(
            lambda: book.value("SELECT count(*) = 2 FROM event_deliveries WHERE state = 'delivered'")
        )
        request = pb.ListEventDeliveriesRequest(subscription_id=subscription_id, page_size=1)
        newest = await stub.ListEventDeliveries(request)
        request.page_token = newest.next_page_token
        oldest = await stub.ListEventDeliveries(request)
        assert oldest.next_page_token == ""
        log = [*oldest.deliveries, *newest.deliveries]
        assert [EVENT_DELIVERY.word(each.state) for each in log] == ["delivered", "delivered"]
        first, again, second = endpoint.ids()
        assert first == again
        assert [first, second] == [each.webhook_id for each in log]
        assert all(post.signed_with(made.secret) for post in endpoint.posts)
        found = await stub.ListSubscriptions(pb.ListSubscriptionsRequest())
        assert [each.id for each in found.subscriptions] == [subscription_id]
        assert made.secret not in str(found)
        assert [attempt.status_code for attempt in newest.deliveries[0].attempts] == [200]
        assert await _disabled_with_news(stub, settings.nats_url, subscription_id) == "request"
        assert (
            await stub.DeleteSubscription(pb.DeleteSubscriptionRequest(subscription_id=subscription_id))
        ).deleted
        # What was posted to it can be read as long as it is kept.
        request.page_token = ""
        assert len((await stub.ListEventDeliveries(request)).deliveries) == 1
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.ListEventDeliveries(pb.ListEventDeliveriesRequest(subscription_id=new_id()))
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def _disabled_with_news(stub: Any, nats_url: str, subscription_id: str) -> str:
    """Disable a subscription, and return the reason that the event says."""
    client = await nats.connect(nats_url)
    heard = await client.subscribe("posthouse.event.subscription.disabled")
    await client.flush()
    request = pb.UpdateSubscriptionRequest(
        subscription=subscription_pb2.Subscription(id=subscription_id, disabled=True),
        update_mask=FieldMask(paths=["disabled"]),
    )
    # The second time nothing has happened.
    await stub.UpdateSubscription(request)
    await stub.UpdateSubscription(request)
    batch = event_pb2.EventBatch.FromString((await heard.next_msg(60)).data)
    await client.close()
    (event,) = batch.events
    assert (event.type, event.subscription_id) == ("disabled", subscription_id)
    return event.error_code
