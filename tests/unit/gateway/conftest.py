"""The application on scripted services, and a client of it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx2
import pytest
from starlette.types import ASGIApp

from gateway.app import Wiring, build_app
from gateway.events import EventRoute
from gateway.health import watch_services
from gateway.joining import join_sends, join_webhooks
from gateway.rpc import Backends, call_with
from services.kit.client import open_channel
from services.kit.health import HealthMonitor
from tests.unit.gateway.fakes import Fakes

PHONE = "+15550001111"
MAX_BODY = 64 * 1024
MAX_WEBHOOK = 2 * 1024 * 1024


@dataclass
class Gateway:
    app: ASGIApp
    wiring: Wiring
    monitor: HealthMonitor
    draining: asyncio.Event
    fakes: Fakes
    client: httpx2.AsyncClient


async def _ignore(_healthy: bool) -> None:
    return


@pytest.fixture
async def fakes() -> AsyncIterator[Fakes]:
    fakes = Fakes()
    server = await fakes.start()
    yield fakes
    await server.stop(None)


@pytest.fixture
async def gateway(fakes: Fakes) -> AsyncIterator[Gateway]:
    channel = open_channel(f"127.0.0.1:{fakes.port}")
    backends = Backends.over(channel, channel, channel)
    monitor = watch_services(dict.fromkeys(("message", "conversation", "dispatch"), channel), _ignore)
    draining = asyncio.Event()
    events = EventRoute(backends, draining)
    wiring = Wiring(
        backends=backends,
        events=events,
        coalescer=join_sends(
            lambda message, metadata: call_with(backends.message.SendMessages, message, metadata)
        ),
        webhooks=join_webhooks(
            lambda message, metadata: call_with(backends.message.IngestWebhooks, message, metadata)
        ),
        monitor=monitor,
        draining=draining,
        version="1.2.3",
        max_body_bytes=MAX_BODY,
        max_webhook_bytes=MAX_WEBHOOK,
        phone_number=PHONE,
    )
    app = build_app(wiring)
    transport = httpx2.ASGITransport(app, client=("203.0.113.9", 4711))
    async with httpx2.AsyncClient(transport=transport, base_url="http://posthouse.test") as client:
        yield Gateway(app, wiring, monitor, draining, fakes, client)
    await events.close()
    await channel.close(None)


@pytest.fixture
def client(gateway: Gateway) -> httpx2.AsyncClient:
    return gateway.client
