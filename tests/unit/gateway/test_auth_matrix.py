"""Every route against every kind of credential, on services that authenticate."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.app import Wiring, build_app
from gateway.callers import Callers
from gateway.events import EventRoute
from gateway.health import watch_services
from gateway.joining import join_sends, join_webhooks
from gateway.rate_limits import RateLimits
from gateway.rpc import Backends, call_with
from posthouse.v1 import auth_service_pb2
from services.kit.auth_interceptor import AuthInterceptor
from services.kit.client import open_channel
from services.kit.config import Settings
from services.kit.errors import UnauthenticatedError, UnavailableError
from services.kit.rate_limit_clients import GATEWAY_TOKEN, Clients
from services.kit.rate_limits import RateLimiter
from services.kit.scopes import SCOPE_OF_METHOD
from services.kit.sliding_window import MemoryWindows
from services.message.auth_servicer import AuthServicer
from tests.credentials import GATEWAY, Cell, MemoryKeys, auth_settings, cells, memory_authenticator
from tests.unit.gateway.conftest import PHONE
from tests.unit.gateway.fakes import Fakes
from tests.unit.gateway.samples import SEND

# What the gateway answers by itself: the scope it needs where the setting closes it.
OWN = {
    ("get", "/health"): "",
    ("get", "/ready"): "",
    ("get", "/metrics"): "read",
    ("get", "/api/v1/docs"): "",
    ("get", "/api/v1/openapi.json"): "",
    ("get", "/api/v1/docs/assets/swagger-ui.css"): "",
}
# Bodies that the document has no example of.
BODIES: dict[str, Any] = {
    "/api/v1/messages/batch": {"messages": [SEND]},
    "/api/v1/messages/receive": {"messages": [{**SEND, "source": "s", "event_id": "1"}]},
    "/api/v1/messages/{message_id}/resolve": {"status": "sent", "reason": "seen"},
    "/api/v1/conversations/search": {"query": "hello"},
    "/api/v1/dead-letters/replay": {"message_ids": ["x"]},
    "/api/v1/simulator": {"type": "sms"},
}
SCOPE_OF_CALL = {name.rpartition("/")[2]: scope for name, scope in SCOPE_OF_METHOD.items()}


@dataclass
class Guarded:
    wiring: Wiring
    client: httpx2.AsyncClient
    fakes: Fakes
    store: MemoryKeys
    cells: list[Cell]
    settings: Settings

    def app(self, *, limits: RateLimits | None = None, open_endpoints: str | None = None) -> Any:
        """Return the application as the settings have it, or otherwise."""
        opened = self.settings.open_endpoints if open_endpoints is None else open_endpoints
        callers = Callers(
            self.wiring.backends.auth,
            open_endpoints=opened.split(),
            clients=Clients.build(self.settings),
            gateway_token=GATEWAY,
        )
        limits = limits or RateLimits(clients=Clients.build(self.settings), gateway_token=GATEWAY)
        return build_app(replace(self.wiring, callers=callers, rate_limits=limits))

    def calling(self, app: Any) -> httpx2.AsyncClient:
        transport = httpx2.ASGITransport(app, client=("203.0.113.9", 4711))
        return httpx2.AsyncClient(transport=transport, base_url="http://posthouse.test")


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Guarded]:
    settings, store, fakes = auth_settings(tmp_path), MemoryKeys(), Fakes()
    rows = cells(store)
    authenticator = memory_authenticator(settings, store)

    async def get_caller(request: auth_service_pb2.GetCallerRequest) -> auth_service_pb2.GetCallerResponse:
        return await AuthServicer(None).GetCaller(request, None)  # type: ignore[arg-type]

    fakes.answers["GetCaller"] = get_caller
    server = await fakes.start(AuthInterceptor(authenticator))
    authenticator.start()
    channel = open_channel(f"127.0.0.1:{fakes.port}")
    backends = Backends.over(channel, channel, channel)

    async def ignore(_healthy: bool) -> None:
        return

    services = dict.fromkeys(("message", "conversation", "dispatch"), channel)
    monitor = watch_services(services, ignore)
    await monitor.check()
    events = EventRoute(
        backends,
        asyncio.Event(),
        callers=Callers(backends.auth, clients=Clients.build(settings), gateway_token=GATEWAY),
        metadata=((GATEWAY_TOKEN, GATEWAY),),
    )
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
        draining=asyncio.Event(),
        version="1.2.3",
        max_body_bytes=64 * 1024,
        max_webhook_bytes=64 * 1024,
        phone_number=PHONE,
    )
    found = Guarded(wiring, None, fakes, store, rows, settings)  # type: ignore[arg-type]
    async with found.calling(found.app()) as client:
        yield replace(found, client=client)
    await events.close()
    await channel.close(None)
    await authenticator.close()
    await server.stop(None)


class Route:
    """A route of the OpenAPI document, and a request of it whose shape is right."""

    def __init__(self, document: Any, method: str, path: str) -> None:
        operation = document["paths"][path][method]
        given = {
            (item["in"], item["name"]): (item.get("schema", {}).get("examples") or ["+15551234567"])[0]
            for item in operation.get("parameters", ())
            if item["required"]
        }
        self.method, self.path = method, path
        self.url = re.sub(r"\{(\w+)\}", lambda found: str(given.get(("path", found[1]), "x")), path)
        self.params = {name: value for (place, name), value in given.items() if place == "query"}
        self.body = _body(document, operation) or (BODIES.get(path) if "requestBody" in operation else None)

    async def call(self, client: httpx2.AsyncClient, cell: Cell, *, bearer: bool) -> httpx2.Response:
        return await client.request(
            self.method,
            self.url,
            params=self.params,
            json=self.body,
            headers=dict(cell.metadata(bearer=bearer)),
        )


def _body(document: Any, operation: Any) -> Any:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return None
    schema = content["schema"]
    for choice in (schema, *schema.get("anyOf", ())):
        reference = choice.get("$ref", "").rpartition("/")[2]
        examples = document["components"]["schemas"].get(reference, {}).get("examples")
        if examples:
            return examples[0]
    examples = content.get("examples") or {}
    return next((example["value"] for example in examples.values()), None)


async def routes(guarded: Guarded) -> list[Route]:
    document = (await guarded.client.get("/api/v1/openapi.json")).json()
    return [
        Route(document, method, path)
        for path, item in document["paths"].items()
        for method in item
        if (method, path) not in OWN
    ]


def in_turn(rows: list[Cell], turn: int) -> list[Cell]:
    """Return the cells of a route: all that may be right there, and every fifth of those that never are.

    The services meet all of them at every RPC, in the matrix of services/kit; the gateway tells these alike.
    """
    good = [cell for cell in rows if cell.scopes is not None]
    bad = [cell for cell in rows if cell.scopes is None]
    return good + bad[turn % 5 :: 5]


async def test_every_cell_of_the_matrix(guarded: Guarded) -> None:
    admin = next(cell for cell in guarded.cells if cell.name == "key admin")
    wrong = []
    for turn, route in enumerate(await routes(guarded)):
        guarded.fakes.seen.clear()
        await route.call(guarded.client, admin, bearer=False)
        called = [seen.method for seen in guarded.fakes.seen if seen.method != "GetCaller"]
        if not called:
            wrong.append((route.method, route.path, "asks no service, is not in OWN", route.body))
            continue
        needed = SCOPE_OF_CALL[called[0]]
        for number, cell in enumerate(in_turn(guarded.cells, turn)):
            answer = await route.call(guarded.client, cell, bearer=number % 2 == 0)
            right = 501 if called[0] == "IngestWebhooks" or cell.may(needed) else 403
            if cell.scopes is None and called[0] != "IngestWebhooks":
                right = 401
            if answer.status_code != right:
                wrong.append((route.method, route.path, cell.name, answer.status_code, right))
    assert wrong == []


async def test_routes_of_the_gateway_itself(guarded: Guarded) -> None:
    async with guarded.calling(guarded.app(open_endpoints="")) as closed:
        for turn, ((method, path), needed) in enumerate(OWN.items()):
            assert (await guarded.client.request(method, path)).status_code == 200
            for number, cell in enumerate(in_turn(guarded.cells, turn)):
                headers = dict(cell.metadata(bearer=number % 2 == 0))
                answer = await closed.request(method, path, headers=headers)
                right = 401 if cell.scopes is None else 200 if cell.may(needed) else 403
                assert answer.status_code == right, (path, cell.name)
            answer = await closed.request(method, path, headers={"x-posthouse-gateway": GATEWAY})
            assert answer.status_code == 200


async def test_what_is_no_route_is_closed_too(guarded: Guarded) -> None:
    for path in ("/nothing", "/healthy", "/api/v1/docsx", "/metrics/x/../../y", "/webhooks"):
        assert (await guarded.client.get(path)).status_code == 401, path


async def test_a_refusal_comes_before_the_body_and_says_how_to_come_in(guarded: Guarded) -> None:
    answer = await guarded.client.post("/api/v1/messages/send", content=b"x" * 1_000_000)
    assert (answer.status_code, answer.json()["reason"]) == (401, "UNAUTHENTICATED")
    assert answer.headers["www-authenticate"] == "Bearer"
    answer = await guarded.client.post("/api/v1/messages/send", json=SEND, headers={"x-api-key": b"ph_\x7f"})
    assert answer.status_code == 401


async def test_a_credential_is_asked_about_once_in_a_while(guarded: Guarded) -> None:
    headers = {"x-api-key": guarded.store.add("read")}
    for _ in range(5):
        assert (await guarded.client.get("/api/v1/providers", headers=headers)).status_code == 501
    calls = [seen for seen in guarded.fakes.seen if seen.method == "GetCaller"]
    assert len(calls) == 1
    assert calls[0].metadata["x-posthouse-gateway"] == GATEWAY


async def test_invented_credentials_are_neither_long_nor_remembered_for_long(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.callers._UNKNOWN", 0.0)
    callers = Callers(guarded.wiring.backends.auth)
    for number in range(20):
        with pytest.raises(UnauthenticatedError):
            await callers.check({"path": "/", "headers": [(b"x-api-key", b"guess-%d" % number)]})
    assert len(callers._known) == 1
    answer = await guarded.client.get("/api/v1/providers", headers={"x-api-key": "x" * 16_385})
    assert answer.status_code == 401
    assert [seen.method for seen in guarded.fakes.seen if len(seen.metadata.get("x-api-key", "")) > 99] == []


async def test_limits_follow_the_caller_over_a_rotation(guarded: Guarded) -> None:
    limiter = RateLimiter(MemoryWindows(60), 60)
    limits = RateLimits(limiter, Clients.build(guarded.settings), requests=3, gateway_token=GATEWAY)
    old = guarded.store.add("read", name="the-caller")
    new = guarded.store.add("read", name="the-caller")
    other = guarded.store.add("read", name="another")
    async with guarded.calling(guarded.app(limits=limits)) as client:
        said = [
            (await client.get("/api/v1/providers", headers={"x-api-key": secret})).status_code
            for secret in (old, old, new, new, other)
        ]
        assert said == [501, 501, 501, 429, 501]
        # Strangers count together, whatever they try.
        tried = [
            (await client.get("/api/v1/providers", headers={"x-api-key": f"guess-{number}"})).status_code
            for number in range(5)
        ]
        assert tried == [401, 401, 401, 429, 429]


async def test_while_nobody_can_tell_the_services_decide(guarded: Guarded) -> None:
    guarded.fakes.answers["GetCaller"] = UnavailableError("away")
    headers = {"x-api-key": guarded.store.add("read")}
    assert (await guarded.client.get("/api/v1/providers", headers=headers)).status_code == 501
    assert (await guarded.client.get("/api/v1/providers", headers={"x-api-key": "x"})).status_code == 401
    async with guarded.calling(guarded.app(open_endpoints="")) as closed:
        assert (await closed.get("/metrics", headers=headers)).status_code == 503
