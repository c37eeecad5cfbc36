"""Endpoints of customers on loopback, and what posts to them, on a ledger of the test's own."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from services.conversation.delivering import DeliveryPolicy, DeliveryWorker
from services.conversation.subscribing import EventNotes
from services.conversation.subscriptions import SubscriptionKeeper
from services.kit.guarded_http import GuardedClient
from services.kit.networks import parse_networks
from services.kit.public_targets import TargetPolicy, parse_ports
from services.ledger.database import Database

TARGETS = TargetPolicy(parse_networks("127.0.0.0/8"), parse_ports("*"))


@dataclass
class Posted:
    """One request as an endpoint saw it."""

    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> Any:
        return json.loads(self.body)

    def signed_with(self, secret: str) -> bool:
        """Check a signature as the specification of Standard Webhooks says, by its text alone."""
        key = base64.b64decode(secret.split("_", 1)[1])
        content = ".".join((self.id, self.headers["webhook-timestamp"], self.body.decode()))
        right = base64.b64encode(hmac.new(key, content.encode(), hashlib.sha256).digest()).decode()
        return f"v1,{right}" in self.headers["webhook-signature"].split(" ")


@dataclass
class Endpoint:
    """A server that answers with `status`; while `hold` is cleared it does not answer."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    posts: list[Posted] = field(default_factory=list)
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def handle(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.posts.append(Posted(headers, await request.read()))
        await self.hold.wait()
        return web.Response(status=self.status, headers=self.headers)

    def ids(self) -> list[str]:
        return [post.id for post in self.posts]


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    endpoint = Endpoint()
    endpoint.hold.set()
    app = web.Application()
    app.router.add_post("/{tail:.*}", endpoint.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    endpoint.url = f"http://127.0.0.1:{runner.addresses[0][1]}/events"
    yield endpoint
    endpoint.hold.set()
    await runner.cleanup()


@dataclass
class Desk:
    """One process's share of the work."""

    worker: DeliveryWorker
    keeper: SubscriptionKeeper
    notes: EventNotes
    # What was disabled, and why.
    disabled: list[tuple[str, str]]
    task: "asyncio.Task[None] | None" = None

    def start(self) -> None:
        self.task = asyncio.create_task(self.worker.run())

    async def die(self) -> None:
        """End as a killed process does: nothing is settled."""
        tasks = [*self.worker._flights, *([self.task] if self.task else [])]
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)


OpenDesk = Callable[..., Desk]


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[OpenDesk]:
    """Return a function that opens a desk with a policy; retries come at once unless it says otherwise."""
    opened: list[tuple[Desk, GuardedClient]] = []

    def open_desk(*, start: bool = True, **policy: Any) -> Desk:
        chosen = DeliveryPolicy(**{"timeout": 60.0, "retry_base": 0.01, "retry_max": 0.02, **policy})
        client = GuardedClient(TARGETS, timeout=chosen.timeout)
        heard: list[tuple[str, str]] = []

        async def disabled(subscription_id: str, reason: str) -> None:
            heard.append((subscription_id, reason))

        worker = DeliveryWorker(database, client, chosen, source="http://posthouse.test", disabled=disabled)
        keeper = SubscriptionKeeper(database, TARGETS, wake=worker.wake, disabled=disabled)
        made = Desk(worker, keeper, EventNotes(database, worker), heard)
        opened.append((made, client))
        if start:
            made.start()
        return made

    yield open_desk
    for made, client in opened:
        await made.die()
        await client.close()
