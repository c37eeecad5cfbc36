"""Wires ConversationService and runs it as a process of its own."""

import asyncio

from posthouse.v1 import conversation_service_pb2_grpc as pb_grpc
from posthouse.v1 import subscription_service_pb2_grpc as subscription_grpc
from services.conversation.activity import watch_activity
from services.conversation.feed import EventFeed
from services.conversation.indexer import SearchIndexer
from services.conversation.learning import RegisterHealth, learning
from services.conversation.servicer import ConversationServicer
from services.conversation.subscribing import subscribing
from services.conversation.subscription_servicer import SubscriptionServicer
from services.conversation.watching import Watchers, WatchLimits
from services.kit.authentication import Authenticator
from services.kit.background import in_background
from services.kit.bus import Bus, BusConfig
from services.kit.cancelling import cancel_all
from services.kit.config import Settings, load_settings
from services.kit.health import HealthMonitor, parted
from services.kit.logs import get_logger
from services.kit.process import run_process
from services.kit.rate_limit_clients import Clients
from services.kit.rate_limit_interceptor import RateLimitInterceptor
from services.kit.rate_limits import RateLimiter
from services.kit.server import RpcServer
from services.ledger.api_keys import ApiKeyStore
from services.ledger.database import Database

_log = get_logger(__name__)


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set, then drain. PostgreSQL may come and go meanwhile."""
    database = Database(
        settings.database_url,
        pool_size=settings.database_pool_size,
        timeout=settings.database_timeout,
        name="conversation",
        replica=settings.database_replica_url,
        keyring=settings.keyring,
    )
    bus = Bus(BusConfig(settings.nats_url.split(","), "posthouse-conversation", settings.nats_replicas))
    feed = EventFeed(bus, database, ring=settings.watch_buffer, backlog=settings.watch_backlog)
    limits = WatchLimits(settings.watch_streams, settings.watch_heartbeat)
    watchers = Watchers(feed, limits, phone_region=settings.phone_region)
    limiter = RateLimiter.build(settings)
    server = RpcServer(
        settings,
        settings.grpc_port + 1,
        "posthouse.v1.ConversationService",
        interceptors=RateLimitInterceptor.build(settings, limiter, Clients.build(settings)),
        streams=settings.watch_streams,
        beside=["posthouse.v1.SubscriptionService"],
        authenticator=Authenticator.build(settings, ApiKeyStore(database)),
    )
    servicer = ConversationServicer(database, watchers, phone_region=settings.phone_region)
    pb_grpc.add_ConversationServiceServicer_to_server(servicer, server.server)
    register = RegisterHealth()
    checks = {"postgresql": database.ping, "nats": bus.answers, "monitor": register.answers}
    required, reported = parted(checks, settings.followed)
    monitor = HealthMonitor(required, server.set_serving, reported=reported, on_report=server.report)
    await database.start()
    await bus.start()
    tasks: list[asyncio.Task[None]] = []
    try:
        async with (
            learning(settings, database, bus, register),
            subscribing(settings, database, bus) as keeper,
        ):
            subscriptions = SubscriptionServicer(database, keeper)
            subscription_grpc.add_SubscriptionServiceServicer_to_server(subscriptions, server.server)
            await server.start()
            _log.info("conversation_listening", address=server.address)
            tasks.append(in_background("health", monitor.run))
            tasks.append(in_background("activity", lambda: watch_activity(database)))
            if settings.search_share:
                indexer = SearchIndexer(database, share=settings.search_share)
                tasks.append(in_background("search-indexer", indexer.run))
            await stop.wait()
    finally:
        await server.retire(settings.drain_notice)
        await cancel_all(tasks)
        # Told one by one, which takes a while for thousands; what is left when the server stops is cut off.
        await watchers.end(settings.shutdown_grace / 2)
        await server.stop()
        await feed.close()
        await bus.close()
        await database.close()
        if limiter is not None:
            await limiter.close()


if __name__ == "__main__":
    run_process("conversation", main, load_settings())
