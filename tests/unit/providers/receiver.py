"""A webhook receiver on a real socket that checks signatures and remembers what it was told."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import orjson
from aiohttp import web

from services.providers.base import WebhookRequest
from services.providers.simulator_store import SimulatorStore
from services.providers.simulator_webhook import verify_signature

SECRET = "secret-of-the-carrier"


class Receiver:
    """Listens at `url`; answers with `status`. `port` 0 takes a free one."""

    def __init__(self, port: int = 0) -> None:
        self.events: list[dict[str, Any]] = []
        self.request_sizes: list[int] = []
        self.requests: list[WebhookRequest] = []
        self.status = 200
        self._news = asyncio.Event()
        self.refuse_containing: bytes | None = None
        self.port = port
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v1/webhooks/simulator"

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/api/v1/webhooks/simulator", self._receive)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        received = WebhookRequest("POST", self.url, lower(request.headers), body)
        assert verify_signature(SECRET, received)
        self.requests.append(received)
        if self.status != 200:
            return web.Response(status=self.status)
        if self.refuse_containing is not None and self.refuse_containing in body:
            return web.Response(status=422)
        events = orjson.loads(body)
        self.request_sizes.append(len(events))
        self.events.extend(events)
        self._news.set()
        return web.json_response({})

    def of_kind(self, kind: str) -> Counter[str]:
        """Return how often each message got an event of this kind."""
        return Counter(event["message_id"] for event in self.events if event["event"] == kind)

    async def wait_for(self, count: int, seconds: float = 60.0) -> None:
        """Wait until so many events have come."""
        async with asyncio.timeout(seconds):
            while len(self.events) < count:
                self._news.clear()
                await self._news.wait()


def lower(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers with their names in lower case."""
    return {name.lower(): value for name, value in headers.items()}


async def wait_until_delivered(path: Path, seconds: float = 60.0) -> None:
    """Wait until no callback is pending in a simulator's file."""
    store = SimulatorStore(path)
    async with asyncio.timeout(seconds):
        while await asyncio.to_thread(store.pending):  # noqa: ASYNC110 - the file tells nobody
            await asyncio.sleep(0.05)
