"""GET /api/v1/events."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from starlette.requests import Request
from starlette.responses import StreamingResponse

from gateway import answers, events
from gateway.events import EventRoutes
from gateway.rpc import Backends
from posthouse.v1 import conversation_service_pb2 as pb
from posthouse.v1 import event_pb2
from services.kit.client import open_channel
from services.kit.errors import OverloadedError, PosthouseError, UnavailableError
from tests.unit.gateway import samples
from tests.unit.gateway.fakes import Fakes


def item(number: int) -> pb.WatchEventsResponse:
    event = event_pb2.Event(id=f"m1.{number}", type="sent", create_time=samples.NOON, message_id="m1")
    return pb.WatchEventsResponse(event_id=str(number), event=event)


def request() -> Request:
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": "/api/v1/events",
        "query_string": b"",
        "headers": [],
    }
    scope.update({"scheme": "http", "server": ("posthouse.test", 80), "state": {"request_id": "r1"}})
    return Request(scope)


@pytest.fixture(autouse=True)
def _short_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_REFUSAL_WINDOW", 0.5)


@pytest.fixture
async def backends(fakes: Fakes) -> AsyncIterator[Backends]:
    channel = open_channel(f"127.0.0.1:{fakes.port}")
    yield Backends.over(channel, channel, channel)
    await channel.close(None)


async def read(response: StreamingResponse, count: int) -> list[str]:
    found = []
    async for chunk in response.body_iterator:
        found.append(bytes(chunk).decode() if not isinstance(chunk, str) else chunk)
        if len(found) == count:
            break
    await response.body_iterator.aclose()  # type: ignore[attr-defined]
    return found


async def test_streams_events(backends: Backends, fakes: Fakes) -> None:
    async def watch(_request: Any) -> AsyncIterator[Any]:
        yield item(1)
        yield pb.WatchEventsResponse(event_id="2")
        yield pb.WatchEventsResponse()
        yield item(3)

    fakes.answers["WatchEvents"] = watch
    routes = EventRoutes(backends, asyncio.Event())
    response = await routes.watch(request(), "c1", "+15559876543", "0")
    assert response.media_type == "text/event-stream"
    chunks = await read(response, 99)
    assert chunks[0] == ": connected\n\n"
    head, _, data = chunks[1].partition("data: ")
    assert head == "id: 1\nevent: sent\n"
    answers.Event.model_validate(orjson.loads(data))
    assert chunks[2:4] == [": heartbeat\nid: 2\n\n", ": heartbeat\n\n"]
    assert len(chunks) == 5
    assert fakes.only("WatchEvents").request == pb.WatchEventsRequest(
        conversation_id="c1", participant="+15559876543", after_event_id="0"
    )
    assert routes._open == 0


async def test_keeps_proxies_awake_and_ends_when_draining(backends: Backends, fakes: Fakes) -> None:
    async def watch(_request: Any) -> AsyncIterator[Any]:
        await asyncio.sleep(60)
        yield item(1)

    fakes.answers["WatchEvents"] = watch
    draining = asyncio.Event()
    routes = EventRoutes(backends, draining, heartbeat=0.05)
    response = await routes.watch(request(), "", "", "")
    asyncio.get_running_loop().call_later(0.3, draining.set)
    chunks = await asyncio.wait_for(read(response, 99), 60)
    assert ": keep-alive\n\n" in chunks
    assert routes._open == 0


async def test_refusal_comes_before_the_stream(backends: Backends, fakes: Fakes) -> None:
    async def watch(_request: Any) -> AsyncIterator[Any]:
        raise UnavailableError("away")
        yield item(1)

    fakes.answers["WatchEvents"] = watch
    with pytest.raises(PosthouseError) as refused:
        await EventRoutes(backends, asyncio.Event()).watch(request(), "", "", "")
    assert refused.value.reason == "DEPENDENCY_UNAVAILABLE"


async def test_failure_on_the_way_is_an_event(backends: Backends, fakes: Fakes) -> None:
    async def watch(_request: Any) -> AsyncIterator[Any]:
        yield item(1)
        raise UnavailableError("away")

    fakes.answers["WatchEvents"] = watch
    response = await EventRoutes(backends, asyncio.Event()).watch(request(), "", "", "")
    chunks = await read(response, 99)
    kind, _, data = chunks[-1].partition("\ndata: ")
    assert kind == "event: error"
    answers.Problem.model_validate(orjson.loads(data))


async def test_streams_are_bounded(backends: Backends, fakes: Fakes) -> None:
    async def watch(_request: Any) -> AsyncIterator[Any]:
        yield item(1)
        await asyncio.sleep(60)

    fakes.answers["WatchEvents"] = watch
    routes = EventRoutes(backends, asyncio.Event(), most=1)
    first = await routes.watch(request(), "", "", "")
    stream = first.body_iterator.__aiter__()
    await stream.__anext__()
    with pytest.raises(OverloadedError):
        await routes.watch(request(), "", "", "")
    await first.body_iterator.aclose()  # type: ignore[attr-defined]
    assert (await routes.watch(request(), "", "", "")).status_code == 200


async def test_a_watcher_that_leaves_early_cancels_the_call(backends: Backends, fakes: Fakes) -> None:
    begun, gone = asyncio.Event(), asyncio.Event()

    async def watch(_request: Any) -> AsyncIterator[Any]:
        begun.set()
        try:
            await asyncio.sleep(60)
            yield item(1)
        finally:
            gone.set()

    fakes.answers["WatchEvents"] = watch
    routes = EventRoutes(backends, asyncio.Event())
    watching = asyncio.create_task(routes.watch(request(), "", "", ""))
    await asyncio.wait_for(begun.wait(), 60)
    watching.cancel()
    await asyncio.wait_for(gone.wait(), 60)
