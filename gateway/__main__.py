"""Wires and runs the gateway: `python -m gateway`."""

import asyncio
import contextlib
import functools
import math
import socket
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import uvicorn

from gateway.app import Wiring, build_app
from gateway.callers import Callers
from gateway.coalesce import Limits
from gateway.connections import BoundedConnection, ConnectionLimits
from gateway.events import EventLimits, EventRoute
from gateway.health import watch_services
from gateway.joining import join_sends, join_webhooks
from gateway.rate_limits import RateLimits
from gateway.rpc import Backends, call_with
from gateway.tracing import traced
from services.kit.background import in_background
from services.kit.client import open_channel
from services.kit.config import Settings, WrongSettingError, load_settings
from services.kit.exposure import check_exposure
from services.kit.logs import get_logger
from services.kit.process import run_process
from services.kit.rate_limit_clients import GATEWAY_TOKEN, Clients
from services.kit.rate_limits import RateLimiter

_log = get_logger(__name__)

# Connections that may wait to be accepted.
_BACKLOG = 2048
# Bytes that URL and headers of a webhook may take beside its body.
_BESIDE_BODY = 131_072
# Seconds an idle connection is kept: longer than load balancers keep theirs.
_KEEP_ALIVE = 75


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the process, which sets `stop`."""
        yield


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Serve HTTP until `stop` is set, then finish what is in flight; raises OSError when it cannot listen."""
    check_exposure(settings)
    token = settings.gateway_token.get_secret_value() if settings.gateway_token else ""
    if settings.authenticates and not token:
        raise WrongSettingError("POSTHOUSE_GATEWAY_TOKEN: must be set, the same in all processes")
    if settings.webhook_max_body_bytes + _BESIDE_BODY > settings.grpc_max_message_bytes:
        raise WrongSettingError(
            f"POSTHOUSE_WEBHOOK_MAX_BODY_BYTES: must be {_BESIDE_BODY} less than "
            "POSTHOUSE_GRPC_MAX_MESSAGE_BYTES, or what is taken could not be passed on"
        )
    listener = _listen(settings.host, settings.http_port)
    channels = [
        open_channel(target, max_message_bytes=settings.grpc_max_message_bytes, settings=settings)
        for target in (settings.message_target, settings.conversation_target, settings.dispatch_target)
    ]
    message, conversation, dispatch = channels
    backends = Backends.over(message, conversation, dispatch)
    own = ((GATEWAY_TOKEN, token),) if token else ()
    services = {"message": message, "conversation": conversation, "dispatch": dispatch}
    monitor = watch_services(services, _report, own)
    limits = Limits(batch_bytes=settings.grpc_max_message_bytes // 4)
    coalescer = join_sends(
        lambda request, metadata: call_with(backends.message.SendMessages, request, metadata), limits
    )
    webhooks = join_webhooks(
        lambda request, metadata: call_with(backends.message.IngestWebhooks, request, metadata), limits
    )
    draining = asyncio.Event()
    limiter = RateLimiter.build(settings)
    clients = Clients.build(settings)
    callers = Callers(
        backends.auth if settings.authenticates else None,
        open_endpoints=settings.open_endpoints.split(),
        clients=clients,
        gateway_token=token,
    )
    events = EventRoute(backends, draining, limits=_event_limits(settings), callers=callers, metadata=own)
    app = traced(
        build_app(
            Wiring(
                backends=backends,
                coalescer=coalescer,
                webhooks=webhooks,
                events=events,
                monitor=monitor,
                draining=draining,
                version=_version(),
                max_body_bytes=settings.http_max_body_bytes,
                max_webhook_bytes=settings.webhook_max_body_bytes,
                ready_follows=settings.followed,
                phone_number=settings.twilio_phone_number,
                rate_limits=_rate_limits(settings, limiter, clients, token),
                callers=callers,
            )
        )
    )
    server = _Server(
        uvicorn.Config(
            app,
            http=functools.partial(  # type: ignore[arg-type] # it wants a class and calls it
                BoundedConnection,
                limits=ConnectionLimits(
                    settings.http_max_header_bytes, settings.http_header_timeout, settings.http_body_timeout
                ),
            ),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            # Providers sign the URL they called; behind a proxy that is a setting, not a header.
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=math.ceil(settings.shutdown_grace),
        )
    )
    await monitor.check()
    watching = in_background("health", monitor.run)
    stopping = asyncio.create_task(_drain(stop, draining, server, settings.drain_notice))
    try:
        await server.serve(sockets=[listener])
        await coalescer.close()
        await webhooks.close()
    finally:
        stopping.cancel()
        watching.cancel()
        await events.close()
        listener.close()
        for channel in channels:
            await channel.close(None)
        if limiter is not None:
            await limiter.close()


def _event_limits(settings: Settings) -> EventLimits:
    return EventLimits(
        streams=settings.watch_streams,
        heartbeat=settings.watch_heartbeat,
        ring=settings.watch_buffer,
        backlog=settings.watch_backlog,
    )


def _rate_limits(settings: Settings, limiter: RateLimiter | None, clients: Clients, token: str) -> RateLimits:
    if limiter is not None and not token:
        _log.warning(
            "gateway_token_not_set", effect="the services limit all callers of this gateway together"
        )
    return RateLimits(limiter, clients, requests=settings.rate_limit_requests, gateway_token=token)


async def _drain(stop: asyncio.Event, draining: asyncio.Event, server: uvicorn.Server, notice: float) -> None:
    await stop.wait()
    draining.set()
    await asyncio.sleep(notice)
    server.should_exit = True


async def _report(healthy: bool) -> None:
    _log.info("gateway_dependencies", all_answer=healthy)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from None


def _version() -> str:
    try:
        return version("posthouse")
    except PackageNotFoundError:
        return "unknown"


if __name__ == "__main__":
    run_process("gateway", main, load_settings())
