"""Wires DispatchService and its dispatcher, and runs them as a process of their own."""

import asyncio
import time
from collections.abc import Callable

from posthouse.v1 import dispatch_service_pb2_grpc as pb_grpc
from services.dispatch.admission import Gate
from services.dispatch.batch import Means
from services.dispatch.breakers import Breakers
from services.dispatch.company import Company
from services.dispatch.governor import Governor
from services.dispatch.inquiry import Inquirer
from services.dispatch.intervening import Intervener
from services.dispatch.lanes import Lanes
from services.dispatch.leases import Leases
from services.dispatch.ownership import Ownership
from services.dispatch.refusing import Refuser
from services.dispatch.retry import RetryPolicy
from services.dispatch.retry_budget import RetryBudget
from services.dispatch.routing import Router
from services.dispatch.sender_rates import SenderRates
from services.dispatch.sending import Postman
from services.dispatch.servicer import DispatchServicer
from services.dispatch.settling import Settler
from services.dispatch.simulator_control import SimulatorControl
from services.dispatch.worker import Dispatcher
from services.kit.authentication import Authenticator
from services.kit.background import in_background
from services.kit.breaker import BreakerPolicy
from services.kit.bus import Bus, BusConfig
from services.kit.cancelling import cancel_all
from services.kit.config import Settings, load_settings
from services.kit.fault_points import FaultPoints
from services.kit.health import HealthMonitor, parted
from services.kit.logs import get_logger
from services.kit.process import run_process
from services.kit.provider_limits import parse_provider_limits, parse_sender_limits
from services.kit.rate_limit_clients import Clients
from services.kit.rate_limit_interceptor import RateLimitInterceptor
from services.kit.rate_limits import RateLimiter
from services.kit.reply_to import parse_reply_to
from services.kit.server import RpcServer
from services.kit.unknown_policy import parse_unknown_policy
from services.ledger.api_keys import ApiKeyStore
from services.ledger.backlog import Backlog
from services.ledger.database import Database
from services.ledger.relay import Relay
from services.providers.registry import build_providers, check_routing

_log = get_logger(__name__)

# Retries of a channel in hand: most, at the start, and per second whatever happens.
_RETRY_BURST = 2000
_RETRY_START = 100
_RETRY_TRICKLE = 1.0


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Dispatch until `stop` is set, then finish what is under way. PostgreSQL and NATS may come and go."""
    database = Database(
        settings.database_url,
        pool_size=settings.database_pool_size,
        timeout=settings.database_timeout,
        name="dispatch",
        keyring=settings.keyring,
    )
    bus = Bus(BusConfig(settings.nats_url.split(","), "posthouse-dispatch", settings.nats_replicas))
    relay = Relay(database, bus, republish_after=settings.outbox_republish_after)
    providers = build_providers(settings, [name for route in settings.routing.values() for name in route])
    check_routing(settings.routing, providers)
    router = Router(settings.route_rules, providers, failover_after=settings.dispatch_failover_after)
    ownership = Ownership(database)
    for provider in providers.values():
        provider.shared_by(lambda: ownership.dispatchers)
    gate = _build_gate(settings, lambda: ownership.dispatchers)
    policy = RetryPolicy(
        settings.dispatch_max_attempts,
        settings.dispatch_retry_base,
        settings.dispatch_retry_max,
        settings.dispatch_max_age,
    )
    lanes = Lanes(bus, batch_size=settings.dispatch_batch_size)
    settler = Settler(database, relay, republish_after=settings.outbox_republish_after)
    means = Means(
        database=database,
        relay=relay,
        ownership=ownership,
        leases=Leases(database, seconds=settings.dispatch_lease),
        postman=Postman(
            router,
            providers,
            policy,
            gate,
            reply_to=parse_reply_to(settings.reply_to),
            clock=database.clock.now,
        ),
        settler=settler,
        inquirer=Inquirer(
            database,
            relay,
            settler,
            router,
            providers,
            max_attempts=settings.dispatch_max_attempts,
            max_age=settings.dispatch_max_age,
            policy=parse_unknown_policy(settings.unknown_policy),
            republish_after=settings.outbox_republish_after,
        ),
        refuser=Refuser(database, relay, republish_after=settings.outbox_republish_after),
        gate=gate,
        company=Company(database, present=lambda: ownership.company, clear=lambda: gate.clear),
        faults=FaultPoints(settings.fault_points),
        lease=settings.dispatch_lease,
        republish_after=settings.outbox_republish_after,
    )
    dispatcher = Dispatcher(means, lanes, concurrency=settings.dispatch_concurrency)
    limiter = RateLimiter.build(settings)
    server = RpcServer(
        settings,
        settings.grpc_port + 2,
        "posthouse.v1.DispatchService",
        interceptors=RateLimitInterceptor.build(settings, limiter, Clients.build(settings)),
        authenticator=Authenticator.build(settings, ApiKeyStore(database)),
    )
    pb_grpc.add_DispatchServiceServicer_to_server(
        DispatchServicer(
            database,
            settings.routing,
            providers,
            SimulatorControl(providers.get("simulator")),
            gate.breakers,
            Intervener(database, relay, republish_after=settings.outbox_republish_after),
        ),
        server.server,
    )

    async def providers_answer() -> bool:
        return gate.breakers.all_closed

    backlog = Backlog(database, republish_after=settings.outbox_republish_after)
    checks = {
        "postgresql": database.ping,
        "nats": bus.answers,
        "outbox": lambda: backlog.moves(settings.outbox_max_age),
        "providers": providers_answer,
    }
    # Without NATS there is nothing it could do, whatever the setting says.
    required, reported = parted(checks, {*settings.followed, "nats"})
    monitor = HealthMonitor(required, server.set_serving, reported=reported, on_report=server.report)

    await database.start()
    for provider in providers.values():
        await provider.start()
    await bus.start()
    await server.start()
    relay.start()
    dispatcher.start()
    _log.info("dispatch_listening", address=server.address)
    fetching = in_background("fetch", lambda: _fetch_once_known(ownership, lanes))
    watches = [
        in_background("health", monitor.run),
        in_background("backlog", backlog.run),
        in_background("ownership", ownership.run),
        fetching,
        in_background("breakers", lambda: gate.breakers.run(bus)),
    ]
    try:
        await stop.wait()
    finally:
        await server.retire(settings.drain_notice)
        fetching.cancel()
        await lanes.close()
        await dispatcher.close(settings.shutdown_grace)
        await cancel_all(watches)
        await server.stop()
        await relay.close()
        for provider in providers.values():
            await provider.close()
        await bus.close()
        await database.close()
        if limiter is not None:
            await limiter.close()


async def _fetch_once_known(ownership: Ownership, lanes: Lanes) -> None:
    """Fetch no work before the other dispatchers wait for what we have fetched."""
    await ownership.wait_held()
    lanes.start()


def _build_gate(settings: Settings, dispatchers: Callable[[], int]) -> Gate:
    policy = BreakerPolicy(
        consecutive_failures=settings.breaker_failures,
        failure_rate=settings.breaker_failure_rate,
        cool_down=settings.breaker_cool_down,
        probes=settings.breaker_probes,
    )
    governor = Governor(
        parse_provider_limits(settings.provider_rates),
        parse_provider_limits(settings.provider_concurrency),
        dispatchers=dispatchers,
    )
    budgets = {
        channel: RetryBudget(
            settings.dispatch_retry_budget,
            _RETRY_BURST,
            initial=_RETRY_START,
            trickle=_RETRY_TRICKLE,
            clock=time.monotonic,
            dispatchers=dispatchers,
        )
        for channel in settings.routing
    }
    senders = SenderRates(parse_sender_limits(settings.sender_rates), dispatchers=dispatchers)
    return Gate(settings.routing, Breakers(settings.routing, policy, shared=True), governor, budgets, senders)


if __name__ == "__main__":
    run_process("dispatch", main, load_settings())
