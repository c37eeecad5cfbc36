"""Every RPC of every service against every kind of credential."""

import asyncio
import contextlib
import importlib
import pkgutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

import posthouse.v1
from posthouse.v1 import conversation_service_pb2, conversation_service_pb2_grpc
from services.kit.client import open_channel
from services.kit.scopes import ANY, INGEST_WEBHOOK, INGEST_WEBHOOKS, SCOPE_OF_METHOD, SCOPES, WATCH_EVENTS
from services.kit.server import RpcServer
from services.kit.status import from_rpc_error
from tests.credentials import GATEWAY, Cell, MemoryKeys, auth_settings, cells, memory_authenticator

HEALTH, REFLECTION = "/grpc.health.v1.Health/Check", "/grpc.reflection.v1alpha.ServerReflection/"


def services() -> list[tuple[Any, Any]]:
    """Return the descriptor and the stubs of every service there is."""
    found = []
    for module in pkgutil.iter_modules(posthouse.v1.__path__):
        if module.name.endswith("_service_pb2"):
            messages = importlib.import_module(f"posthouse.v1.{module.name}")
            stubs = importlib.import_module(f"posthouse.v1.{module.name}_grpc")
            found += [(service, stubs) for service in messages.DESCRIPTOR.services_by_name.values()]
    return found


METHODS = [method for service, _ in services() for method in service.methods]


def path(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


@dataclass
class Guarded:
    channel: grpc.aio.Channel
    store: MemoryKeys
    cells: list[Cell]

    async def outcome(self, method: str, metadata: Any, *, streams: bool = False) -> str:
        """Return the reason a call with an empty request is refused for; "" when it is not."""
        try:
            if streams:
                async for _ in self.channel.unary_stream(method)(b"", metadata=metadata, timeout=60):
                    pass
            else:
                await self.channel.unary_unary(method)(b"", metadata=metadata, timeout=60)
        except grpc.aio.AioRpcError as error:
            return from_rpc_error(error).reason
        return ""


async def serve(folder: Path, **settings: Any) -> tuple[RpcServer, Guarded]:
    store = MemoryKeys()
    rows = cells(store)
    own = auth_settings(folder, **settings)
    server = RpcServer(own, 0, "posthouse.v1.MessageService", authenticator=memory_authenticator(own, store))
    for service, stubs in services():
        base = getattr(stubs, f"{service.name}Servicer")
        getattr(stubs, f"add_{service.name}Servicer_to_server")(
            type(service.name, (base,), {m.name: getattr(base, m.name) for m in service.methods})(),
            server.server,
        )
    await server.start()
    return server, Guarded(open_channel(f"127.0.0.1:{server.port}"), store, rows)


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Guarded]:
    server, guarded = await serve(tmp_path)
    yield guarded
    await guarded.channel.close(None)
    await server.stop()


@pytest.fixture
async def closed(tmp_path: Path) -> AsyncIterator[Guarded]:
    server, guarded = await serve(tmp_path, open_endpoints="")
    yield guarded
    await guarded.channel.close(None)
    await server.stop()


def test_every_rpc_says_which_scope_it_needs_and_no_other_does() -> None:
    assert {path(method) for method in METHODS} == set(SCOPE_OF_METHOD)
    assert set(SCOPE_OF_METHOD.values()) == {*SCOPES, ANY}


async def test_every_cell_of_the_matrix(guarded: Guarded) -> None:
    wrong = []
    for method in METHODS:
        needed = SCOPE_OF_METHOD[path(method)]
        for number, cell in enumerate(guarded.cells):
            said = await guarded.outcome(
                path(method), cell.metadata(bearer=number % 2 == 0), streams=method.server_streaming
            )
            right = "NOT_IMPLEMENTED" if cell.may(needed) else "PERMISSION_DENIED"
            if cell.scopes is None:
                right = "UNAUTHENTICATED"
            if said != right:
                wrong.append((path(method), cell.name, said, right))
    assert wrong == []


async def test_both_headers_are_taken(guarded: Guarded) -> None:
    for cell in guarded.cells:
        said = {
            await guarded.outcome("/posthouse.v1.MessageService/GetMessage", cell.metadata(bearer=bearer))
            for bearer in (True, False)
        }
        assert len(said) == 1, cell.name


async def test_the_gateway_stands_for_nobody_but_providers(guarded: Guarded) -> None:
    token = [("x-posthouse-gateway", GATEWAY), ("x-posthouse-address", "203.0.113.9")]
    forged = [("x-posthouse-gateway", "forged")]
    for method in METHODS:
        # What providers bring, and the events that the gateway hands to watchers it has checked.
        its_own = path(method) in {INGEST_WEBHOOK, INGEST_WEBHOOKS, WATCH_EVENTS}
        right = "NOT_IMPLEMENTED" if its_own else "UNAUTHENTICATED"
        assert await guarded.outcome(path(method), token, streams=method.server_streaming) == right
        assert (
            await guarded.outcome(path(method), forged, streams=method.server_streaming) == "UNAUTHENTICATED"
        )
    # A provider may well have credentials of its own, which are none of ours.
    theirs = [*token, ("authorization", "Basic eDp5")]
    for method in (INGEST_WEBHOOK, INGEST_WEBHOOKS):
        assert await guarded.outcome(method, theirs) == "NOT_IMPLEMENTED"


async def reflect(guarded: Guarded, metadata: Any) -> str:
    """Return the code that a question of reflection is refused with; "" when it is answered."""
    call = guarded.channel.stream_stream(
        f"{REFLECTION}ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    # A client calls a refusal INTERNAL when it comes while the client writes; then it asks again.
    for _ in range(100):
        stream = call(metadata=metadata, timeout=60)
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await stream.write(reflection_pb2.ServerReflectionRequest(list_services=""))
            await stream.done_writing()
            while await stream.read() is not grpc.aio.EOF:
                pass
        code = await stream.code()
        if code is not grpc.StatusCode.INTERNAL:
            break
    return "" if code is grpc.StatusCode.OK else code.name


async def test_health_and_reflection_are_open_by_default(guarded: Guarded) -> None:
    assert await guarded.outcome(HEALTH, []) == ""
    assert await reflect(guarded, []) == ""


async def test_health_and_reflection_can_be_closed(closed: Guarded) -> None:
    for cell in closed.cells:
        right = "UNAUTHENTICATED" if cell.scopes is None else ""
        assert await closed.outcome(HEALTH, cell.metadata(bearer=True)) == right, cell.name
        assert await reflect(closed, cell.metadata(bearer=False)) == right, cell.name
        watch = closed.channel.unary_stream(
            "/grpc.health.v1.Health/Watch", response_deserializer=health_pb2.HealthCheckResponse.FromString
        )(b"", metadata=cell.metadata(bearer=True), timeout=60)
        try:
            assert await watch.read() is not grpc.aio.EOF
            seen = ""
            watch.cancel()
        except grpc.aio.AioRpcError as error:
            seen = from_rpc_error(error).reason
        assert seen == right, cell.name
    assert await closed.outcome(HEALTH, [("x-posthouse-gateway", GATEWAY)]) == ""


async def test_a_watcher_whose_key_is_revoked_sees_nothing_more(tmp_path: Path) -> None:
    store = MemoryKeys()
    secret = store.add("read")
    settings = auth_settings(tmp_path)
    go_on = asyncio.Event()

    class Watched(conversation_service_pb2_grpc.ConversationServiceServicer):
        async def WatchEvents(self, _request: Any, _context: Any) -> Any:  # noqa: N802
            yield conversation_service_pb2.WatchEventsResponse(event_id="1")
            await go_on.wait()
            yield conversation_service_pb2.WatchEventsResponse(event_id="2")

    Watched.__abstractmethods__ = frozenset()  # only what the test calls is there
    authenticator = memory_authenticator(settings, store)
    server = RpcServer(settings, 0, "posthouse.v1.ConversationService", authenticator=authenticator)
    conversation_service_pb2_grpc.add_ConversationServiceServicer_to_server(Watched(), server.server)  # type: ignore[abstract]
    await server.start()
    async with open_channel(f"127.0.0.1:{server.port}") as channel:
        stub = conversation_service_pb2_grpc.ConversationServiceStub(channel)
        metadata = (("x-api-key", secret),)
        request = conversation_service_pb2.WatchEventsRequest()
        call = stub.WatchEvents(request, metadata=metadata, timeout=60)
        first: Any = await call.read()
        assert first.event_id == "1"
        store.revoke(secret)
        keys: Any = authenticator._keys
        async with asyncio.timeout(60):
            while await keys.find(secret):  # noqa: ASYNC110 - the ring looks by itself
                await asyncio.sleep(0.05)
        go_on.set()
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await call.read()
        assert from_rpc_error(ended.value).reason == "UNAUTHENTICATED"
    await server.stop()
