"""The whole gateway on real sockets: start, serve, drain, and what stands in its way."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from importlib.metadata import PackageNotFoundError
from typing import Any

import httpx2
import pytest

import gateway.__main__ as process
from gateway.__main__ import main
from posthouse.v1 import conversation_service_pb2 as conversation_pb
from posthouse.v1 import message_service_pb2 as pb
from services.kit.config import Settings
from tests.servers import free_ports
from tests.unit.gateway.fakes import Fakes, accept_all
from tests.unit.gateway.samples import SEND

URL = "/api/v1/messages/send"


@pytest.fixture
async def fakes() -> AsyncIterator[Fakes]:
    fakes = Fakes(answers={"SendMessages": accept_all})
    server = await fakes.start()
    yield fakes
    await server.stop(None)


@pytest.fixture
def settings(fakes: Fakes) -> Settings:
    service = f"127.0.0.1:{fakes.port}"
    return Settings.model_validate(
        {
            "http_port": free_ports(1),
            "message_address": service,
            "conversation_address": service,
            "dispatch_address": service,
            "shutdown_grace": 120,
        }
    )


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{settings.http_port}", timeout=60) as client:
        yield client


async def until_ready(client: httpx2.AsyncClient) -> None:
    """Wait until the gateway takes calls and has seen all services answer."""
    async with asyncio.timeout(60):
        while True:
            try:
                health = (await client.get("/health")).json()
                if health["status"] == "ok" and (await client.get("/ready")).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.05)


async def test_serves_and_stops(settings: Settings, client: httpx2.AsyncClient) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(main(settings, stop))
    await until_ready(client)
    response = await client.post(URL, json=SEND)
    assert response.status_code == 202
    assert "server" not in response.headers
    assert (await client.get("/health")).json()["status"] == "ok"
    stop.set()
    await asyncio.wait_for(running, 60)
    with pytest.raises(httpx2.TransportError):
        await client.get("/ready")


async def test_drain_finishes_what_is_in_flight(
    settings: Settings, client: httpx2.AsyncClient, fakes: Fakes
) -> None:
    begun, finish = asyncio.Event(), asyncio.Event()

    async def slow(request: pb.SendMessagesRequest) -> pb.SendMessagesResponse:
        begun.set()
        await finish.wait()
        return await accept_all(request)

    fakes.answers["SendMessages"] = slow
    stop = asyncio.Event()
    running = asyncio.create_task(main(settings, stop))
    await until_ready(client)
    sending = asyncio.create_task(client.post(URL, json=SEND))
    await begun.wait()
    stop.set()
    async with asyncio.timeout(60):
        while (await client.get("/ready")).status_code != 503:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.05)
    assert not running.done()
    finish.set()
    assert (await sending).status_code == 202
    await asyncio.wait_for(running, 60)


async def test_drain_ends_event_streams(settings: Settings, client: httpx2.AsyncClient, fakes: Fakes) -> None:
    async def watch(_request: Any) -> AsyncIterator[Any]:
        yield conversation_pb.WatchEventsResponse(event_id="a-1-0")
        await asyncio.sleep(60)

    fakes.answers["WatchEvents"] = watch
    stop = asyncio.Event()
    running = asyncio.create_task(main(settings, stop))
    await until_ready(client)
    async with client.stream("GET", "/api/v1/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = []
        async for line in response.aiter_lines():
            lines.append(line)
            if line == "id: a-1-0":
                stop.set()
    assert lines[:2] == [": connected", "id: a-1-0"]
    assert "event: stream.reconnect" in lines
    await asyncio.wait_for(running, 60)


async def test_a_large_body_is_answered(settings: Settings, client: httpx2.AsyncClient) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(main(settings, stop))
    await until_ready(client)
    for path in (URL, "/api/v1/messages/batch"):
        response = await client.post(path, content=b"x" * 10_000_000)
        assert (response.status_code, response.json()["reason"]) == (413, "TOO_LARGE")
    assert (await client.post(URL, json=SEND)).status_code == 202
    stop.set()
    await asyncio.wait_for(running, 60)


async def test_services_that_are_away_are_a_503(settings: Settings, client: httpx2.AsyncClient) -> None:
    nowhere = f"127.0.0.1:{free_ports(1)}"
    settings = settings.model_copy(update={"message_address": nowhere})
    stop = asyncio.Event()
    running = asyncio.create_task(main(settings, stop))
    async with asyncio.timeout(60):
        while True:
            try:
                response = await client.post(URL, json=SEND)
                break
            except httpx2.TransportError:
                await asyncio.sleep(0.05)
    assert (response.status_code, response.json()["reason"]) == (503, "DEPENDENCY_UNAVAILABLE")
    assert response.headers["retry-after"] == "1"
    assert nowhere not in response.text
    assert (await client.get("/ready")).status_code == 503
    assert (await client.get("/health")).json()["dependencies"]["message"] is False
    stop.set()
    await asyncio.wait_for(running, 60)


async def test_port_in_use_says_so(settings: Settings) -> None:
    with (
        socket.create_server(("127.0.0.1", settings.http_port)),
        pytest.raises(
            OSError, match=rf"cannot listen on 127.0.0.1:{settings.http_port}: Address already"
        ) as refused,
    ):
        await main(settings, asyncio.Event())
    assert refused.value.errno == errno.EADDRINUSE


def test_version_without_an_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_name: str) -> str:
        raise PackageNotFoundError

    assert process._version() != ""
    monkeypatch.setattr(process, "version", missing)
    assert process._version() == "unknown"
