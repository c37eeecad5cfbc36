"""A Collections Monitor to try and to test with: a register of tenants, kept in a file, over HTTP."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

from aiohttp import web

# Whom the README's contact is.
_FIRST = {
    "tenant-1001": {
        "name": "Ana Souza",
        "phone_numbers": ["+15559876543"],
        "language_preference": None,
    }
}

_FIELDS = frozenset({"name", "phone_numbers", "language_preference"})


class MonitorSimulator:
    """The register. A number is found only in the form it is listed in, as in many a real one.

    The next `failing` requests are answered 503. `requests` has what was asked, oldest first.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self.tenants: dict[str, dict[str, Any]] = {}
        if path is not None:
            self.tenants = json.loads(path.read_text("utf-8")) if path.exists() else dict(_FIRST)
            self._save()
        self.failing = 0
        self.requests: list[tuple[str, str]] = []
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> str:
        """Listen, on any free port for 0, and return the address for MONITOR_API_URL."""
        app = web.Application(middlewares=[self._note])
        app.add_routes(
            [
                web.get("/tenants", self._find),
                web.patch("/tenants/{tenant_id}", self._change),
                web.put("/tenants/{tenant_id}", self._put),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        bound_host, bound_port = self._runner.addresses[0][:2]
        return (
            f"http://[{bound_host}]:{bound_port}"
            if ":" in bound_host
            else f"http://{bound_host}:{bound_port}"
        )

    async def close(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def _note(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append((request.method, request.query.get("phone", request.path)))
        if self.failing:
            self.failing -= 1
            raise web.HTTPServiceUnavailable
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _find(self, request: web.Request) -> web.Response:
        phone = request.query.get("phone", "")
        found = [
            {"tenant_id": tenant_id, **tenant}
            for tenant_id, tenant in self.tenants.items()
            if phone in tenant.get("phone_numbers", ())
        ]
        return web.json_response({"tenants": found})

    async def _change(self, request: web.Request) -> web.Response:
        tenant_id = request.match_info["tenant_id"]
        if tenant_id not in self.tenants:
            raise web.HTTPNotFound
        self.tenants[tenant_id].update(await _fields(request))
        self._save()
        return web.json_response({"tenant_id": tenant_id, **self.tenants[tenant_id]})

    async def _put(self, request: web.Request) -> web.Response:
        tenant_id = request.match_info["tenant_id"]
        self.tenants[tenant_id] = await _fields(request)
        self._save()
        return web.json_response({"tenant_id": tenant_id, **self.tenants[tenant_id]})

    def _save(self) -> None:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(self.tenants, indent=2) + "\n", "utf-8")


async def serve(path: Path, host: str, port: int) -> None:
    """Run the simulator until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    simulator = MonitorSimulator(path)
    await simulator.start(host, port)
    try:
        await stop.wait()
    finally:
        await simulator.close()


async def _fields(request: web.Request) -> dict[str, Any]:
    try:
        given = await request.json()
    except ValueError:
        raise web.HTTPBadRequest(text="not JSON") from None
    if not isinstance(given, dict) or given.keys() - _FIELDS:
        raise web.HTTPBadRequest(text=f"an object with some of {', '.join(sorted(_FIELDS))}")
    return given
