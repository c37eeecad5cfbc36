"""Wires MessageService and runs it as a process of its own."""

import asyncio

from posthouse.v1 import auth_service_pb2_grpc, privacy_service_pb2_grpc
from posthouse.v1 import message_service_pb2_grpc as pb_grpc
from services.kit.authentication import Authenticator
from services.kit.background import in_background
from services.kit.bus import Bus, BusConfig
from services.kit.cancelling import cancel_all
from services.kit.config import Settings, load_settings
from services.kit.fault_points import FaultPoints
from services.kit.health import HealthMonitor, parted
from services.kit.logs import get_logger
from services.kit.process import run_process
from services.kit.rate_limit_clients import Clients
from services.kit.rate_limit_interceptor import RateLimitInterceptor
from services.kit.rate_limits import RateLimiter
from services.kit.sender_pools import parse_sender_pools
from services.kit.server import RpcServer
from services.ledger.api_keys import ApiKeyStore
from services.ledger.backlog import Backlog
from services.ledger.database import Database
from services.ledger.relay import Relay
from services.ledger.retention import Retention
from services.message.api_keys import ApiKeyKeeper
from services.message.auth_servicer import AuthServicer
from services.message.cancelling import Canceller
from services.message.cleaning import Cleaner
from services.message.commit import GroupCommitter
from services.message.erasing import Eraser
from services.message.opt_outs import OptOutKeeper
from services.message.placing import Placer
from services.message.preview import Previewer
from services.message.privacy_servicer import PrivacyServicer
from services.message.receiving import Receiver
from services.message.route_health import RouteHealth
from services.message.sender_pools import SenderPools
from services.message.sending import Sender
from services.message.servicer import MessageServicer
from services.message.submission_limits import SubmissionLimiter
from services.message.webhook_wiring import build_ingester

_log = get_logger(__name__)


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set, then drain. PostgreSQL and NATS may come and go meanwhile."""
    database = Database(
        settings.database_url,
        pool_size=settings.database_pool_size,
        timeout=settings.database_timeout,
        name="message",
        keyring=settings.keyring,
    )
    bus = Bus(BusConfig(settings.nats_url.split(","), "posthouse-message", settings.nats_replicas))
    faults = FaultPoints(settings.fault_points)
    relay = Relay(database, bus, republish_after=settings.outbox_republish_after, faults=faults)
    committer = GroupCommitter(
        database,
        relay,
        batch_size=settings.commit_batch_size,
        queue_size=settings.commit_queue_size,
        republish_after=settings.outbox_republish_after,
        faults=faults,
    )
    limiter = RateLimiter.build(settings)
    clients = Clients.build(settings)
    requests = settings.rate_limit_requests
    limits = SubmissionLimiter(
        limiter,
        requests=requests,
        sender_requests=settings.rate_limit_sender_requests or requests,
        ip_requests=settings.rate_limit_ip_requests or requests,
    )
    health = RouteHealth(settings.route_rules, cool_down=settings.breaker_cool_down)
    pools = SenderPools(
        database, parse_sender_pools(settings.sender_pools), strict_phones=settings.strict_phone_numbers
    )
    servicer = MessageServicer(
        database,
        Sender(
            database,
            committer,
            routes=settings.route_rules,
            health=health,
            pools=pools,
            strict_phones=settings.strict_phone_numbers,
            limits=limits,
        ),
        Receiver(database, committer),
        build_ingester(settings, database, committer),
        Canceller(database, relay, republish_after=settings.outbox_republish_after, faults=faults),
        Previewer(
            database,
            routes=settings.route_rules,
            health=health,
            pools=pools,
            strict_phones=settings.strict_phone_numbers,
            limiter=limits,
        ),
        OptOutKeeper(database, faults=faults),
        clients,
    )
    server = RpcServer(
        settings,
        settings.grpc_port,
        "posthouse.v1.MessageService",
        interceptors=RateLimitInterceptor.build(settings, limiter, clients),
        authenticator=Authenticator.build(settings, ApiKeyStore(database)),
        beside=["posthouse.v1.AuthService", "posthouse.v1.PrivacyService"],
    )
    pb_grpc.add_MessageServiceServicer_to_server(servicer, server.server)
    pepper = settings.api_key_secret.get_secret_value() if settings.api_key_secret else None
    auth_service_pb2_grpc.add_AuthServiceServicer_to_server(
        AuthServicer(ApiKeyKeeper(database, pepper, faults=faults)), server.server
    )
    backlog = Backlog(database, republish_after=settings.outbox_republish_after)
    checks = {
        "postgresql": database.ping,
        "nats": bus.answers,
        "outbox": lambda: backlog.moves(settings.outbox_max_age),
    }
    # Whatever they say, sends are taken: see docs/decisions/0008-intake-without-nats.md.
    required, reported = parted(checks, settings.followed)
    monitor = HealthMonitor(required, server.set_serving, reported=reported, on_report=server.report)
    eraser = Eraser(database, faults=faults)
    privacy_service_pb2_grpc.add_PrivacyServiceServicer_to_server(PrivacyServicer(eraser), server.server)

    await database.start()
    await bus.start()
    relay.start()
    committer.start()
    await server.start()
    _log.info("message_listening", address=server.address)
    retention = Retention(
        idempotency_keys=settings.idempotency_retention,
        provider_events=settings.provider_event_retention,
        dead_letters=settings.dead_letter_retention,
        webhook_logs=settings.webhook_log_retention,
        parked_receipts=settings.webhook_parking_time,
    )
    cleaner = Cleaner(database, retention, message_days=settings.message_retention_days)
    tasks = [
        in_background("health", monitor.run),
        in_background("backlog", backlog.run),
        in_background("breakers", lambda: health.run(bus)),
        in_background("clean", cleaner.run),
        in_background("erase", eraser.run),
        in_background("place", Placer(database, committer).run),
    ]
    try:
        await stop.wait()
    finally:
        await server.retire(settings.drain_notice)
        await cancel_all(tasks)
        await server.stop()
        await committer.close()
        await relay.close()
        await bus.close()
        await database.close()
        if limiter is not None:
            await limiter.close()


if __name__ == "__main__":
    run_process("message", main, load_settings())
