"""GET /api/v1/events on a scripted ConversationService."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from gateway import answers, event_feed, event_stream
from gateway.events import PATH, EventLimits, EventRoute
from gateway.rpc import Backends
from posthouse.v1 import conversation_service_pb2 as pb
from posthouse.v1 import event_pb2
from services.kit.client import open_channel
from services.kit.errors import OverloadedError, UnavailableError
from tests.integration.ledger.rows import eventually
from tests.unit.gateway import samples
from tests.unit.gateway.fakes import Fakes

HERE, THERE = "89997e8c-b501-515f-8819-ecb46925d0fb", "11111111-b501-515f-8819-ecb46925d0fb"
OURS, CONTACT = "+15551234567", "+15559876543"


def watched(number: int, conversation: str = HERE, sender: str = OURS) -> pb.WatchedEvent:
    event = event_pb2.Event(
        id=f"m{number}.1",
        type="sent",
        create_time=samples.NOON,
        message_id=f"m{number}",
        conversation_id=conversation,
        sender=sender,
        recipient=CONTACT,
    )
    return pb.WatchedEvent(event_id=f"a-{number}-64", event=event)


def batch(*events: pb.WatchedEvent) -> pb.WatchEventsResponse:
    return pb.WatchEventsResponse(event_id=events[-1].event_id, events=events)


class Log:
    """A ConversationService that streams what the test adds, to each call what comes after its position."""

    def __init__(self, fakes: Fakes) -> None:
        self.events: list[pb.WatchedEvent] = []
        self.calls: list[pb.WatchEventsRequest] = []
        self.first = 0
        self._more = asyncio.Condition()
        fakes.answers["WatchEvents"] = self.watch

    async def add(self, *events: pb.WatchedEvent) -> None:
        async with self._more:
            self.events += events
            self._more.notify_all()

    async def watch(self, request: pb.WatchEventsRequest) -> AsyncIterator[pb.WatchEventsResponse]:
        self.calls.append(request)
        place = len(self.events)
        if request.after_event_id:
            place = next(
                (n for n, each in enumerate(self.events, 1) if each.event_id == request.after_event_id), 0
            )
        position = self.events[place - 1].event_id if place else "a-0-0"
        yield pb.WatchEventsResponse(event_id=request.after_event_id or position, participant=CONTACT)
        while True:
            found = [
                each
                for each in self.events[place:]
                if request.conversation_id in ("", each.event.conversation_id)
            ]
            place = len(self.events)
            if found:
                yield batch(*found)
            if place:
                yield pb.WatchEventsResponse(event_id=self.events[-1].event_id)
            async with self._more:
                while len(self.events) == place:
                    await self._more.wait()


class Client:
    """An ASGI exchange; `text` is what was received, and `blocked` holds the writes up."""

    def __init__(self, route: EventRoute, query: str = "", last_event_id: str = "") -> None:
        self.status = 0
        self.text = ""
        self.ended = False
        self.blocked = asyncio.Event()
        self.blocked.set()
        self._changed = asyncio.Condition()
        self._gone = asyncio.Event()
        headers = [(b"last-event-id", last_event_id.encode())] if last_event_id else []
        scope: dict[str, Any] = {
            "type": "http",
            "method": "GET",
            "path": PATH,
            "query_string": query.encode(),
            "headers": headers,
            "state": {"request_id": "r1"},
        }
        self.task = asyncio.create_task(route(scope, self._receive, self._send))

    async def until(self, *texts: str) -> None:
        """Wait until all texts have come."""
        async with asyncio.timeout(60), self._changed:
            await self._changed.wait_for(lambda: all(text in self.text for text in texts))

    async def leave(self) -> None:
        self._gone.set()
        await asyncio.wait_for(self.task, 60)

    @property
    def ids(self) -> list[str]:
        """The ids of the events that came."""
        lines = [line for line in self.text.splitlines() if line.startswith("data: ")]
        return [found["id"] for line in lines if "id" in (found := orjson.loads(line.removeprefix("data: ")))]

    async def _receive(self) -> Any:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        await self.blocked.wait()
        self.status = message.get("status", self.status)
        self.text += message.get("body", b"").decode()
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.ended = True
            self._gone.set()
        asyncio.get_running_loop().create_task(self._tell())

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


@pytest.fixture
async def backends(fakes: Fakes) -> AsyncIterator[Backends]:
    channel = open_channel(f"127.0.0.1:{fakes.port}")
    yield Backends.over(channel, channel, channel)
    await channel.close(None)


@pytest.fixture
def log(fakes: Fakes) -> Log:
    return Log(fakes)


@pytest.fixture
def draining() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
def limits() -> EventLimits:
    return EventLimits(heartbeat=0.2)


@pytest.fixture
async def route(
    backends: Backends, draining: asyncio.Event, limits: EventLimits
) -> AsyncIterator[EventRoute]:
    route = EventRoute(backends, draining, limits=limits)
    yield route
    await route.close()


async def test_streams_events_to_who_wants_them_over_one_call(route: EventRoute, log: Log) -> None:
    everything, here, person = (
        Client(route),
        Client(route, f"conversation_id={HERE.upper()}"),
        Client(route, "participant=+1%20555%20987%206543"),
    )
    for client in (everything, here, person):
        await client.until(": connected\nid: a-0-0\n\n")
    await log.add(watched(1), watched(2, THERE))
    await everything.until("m1.1", "m2.1")
    await person.until("m1.1", "m2.1")
    await here.until("m1.1")
    assert here.ids == ["m1.1"]
    entry = here.text[here.text.index("id: a-1-64") :].split("\n")
    assert entry[:2] == ["id: a-1-64", "event: sent"]
    answers.Event.model_validate(orjson.loads(entry[2].removeprefix("data: ")))
    # The third call asked how the participant is written.
    assert [call.participant for call in log.calls] == ["", "+1 555 987 6543"]
    for client in (everything, here, person):
        await client.leave()
    assert route._feed.fanout.count == 0
    assert route._open == 0


async def test_keeps_proxies_awake_and_moves_the_position_on(route: EventRoute, log: Log) -> None:
    client = Client(route, f"conversation_id={HERE}")
    await client.until(": connected")
    await log.add(watched(1, THERE))
    await client.until(": keep-alive\nid: a-1-64\n\n")
    assert client.ids == []


@pytest.mark.parametrize(
    ("query", "last_event_id", "named"),
    [
        ("conversation_id=17", "", "conversation_id"),
        ("", "17", "Last-Event-ID"),
        ("last_event_id=a-1-64", "", "last_event_id"),
        ("&".join(f"x{number}=" for number in range(60)), "", "x0"),
    ],
)
async def test_refusals_are_problems(route: EventRoute, query: str, last_event_id: str, named: str) -> None:
    client = Client(route, query, last_event_id)
    await asyncio.wait_for(client.task, 60)
    assert client.status == 400
    assert answers.Problem.model_validate(orjson.loads(client.text)).errors[0].field == named


async def test_without_a_service_it_is_503(
    route: EventRoute, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def watch(_request: Any) -> AsyncIterator[Any]:
        raise UnavailableError("away")
        yield

    monkeypatch.setattr(event_feed, "_PATIENCE", 0.1)
    fakes.answers["WatchEvents"] = watch
    client = Client(route)
    await asyncio.wait_for(client.task, 60)
    assert client.status == 503


async def test_a_refusal_is_not_for_those_who_come_later(
    route: EventRoute, log: Log, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def watch(_request: Any) -> AsyncIterator[Any]:
        raise OverloadedError("too many watchers are connected", retry_after=5)
        yield

    monkeypatch.setattr(event_feed, "_RETRY", 0.01)
    fakes.answers["WatchEvents"] = watch
    refused = Client(route)
    await asyncio.wait_for(refused.task, 60)
    assert refused.status == 429
    task = route._feed.attendance._task
    assert task is not None
    await asyncio.wait_for(task, 60)
    fakes.answers["WatchEvents"] = log.watch
    client = Client(route)
    await client.until(": connected")
    assert client.status == 200


async def test_resumes_from_its_own_memory(route: EventRoute, log: Log) -> None:
    first = Client(route)
    await first.until(": connected")
    await log.add(watched(1), watched(2), watched(3))
    await first.until("m3.1")
    again = Client(route, last_event_id="a-1-64")
    await again.until("m3.1")
    assert again.ids == ["m2.1", "m3.1"]
    assert len(log.calls) == 1


async def test_resumes_from_what_it_never_had(route: EventRoute, log: Log) -> None:
    await log.add(*(watched(number) for number in range(1, 6)))
    client = Client(route, last_event_id="a-2-64")
    await client.until("m5.1")
    await log.add(watched(6), watched(7))
    await client.until("m7.1")
    assert client.ids == [f"m{number}.1" for number in range(3, 8)]


async def test_a_lost_call_is_made_again_where_it_stopped(route: EventRoute, log: Log, fakes: Fakes) -> None:
    async def break_off(request: Any) -> AsyncIterator[Any]:
        broken = True
        async for response in log.watch(request):
            yield response
            if broken and response.events:
                raise UnavailableError("away")

    fakes.answers["WatchEvents"] = break_off
    client = Client(route)
    await client.until(": connected")
    await log.add(watched(1))
    await client.until("m1.1")
    await log.add(watched(2))
    await client.until("m2.1")
    assert client.ids == ["m1.1", "m2.1"]
    assert log.calls[1].after_event_id == "a-1-64"


async def test_a_gap_is_said(route: EventRoute, fakes: Fakes) -> None:
    async def watch(_request: Any) -> AsyncIterator[Any]:
        yield pb.WatchEventsResponse(event_id="a-1-0")
        await seen.wait()
        yield pb.WatchEventsResponse(event_id="b-0-0", gap=pb.WatchGap(detail="lost"))
        await asyncio.sleep(60)

    seen = asyncio.Event()
    fakes.answers["WatchEvents"] = watch
    client = Client(route)
    await client.until(": connected")
    seen.set()
    await client.until("id: b-0-0\nevent: stream.gap\n")


@pytest.mark.parametrize("limits", [EventLimits(heartbeat=0.2, backlog=2)])
async def test_a_slow_watcher_is_told(route: EventRoute, log: Log) -> None:
    client = Client(route)
    await client.until(": connected")
    client.blocked.clear()
    for number in range(1, 7):
        await log.add(watched(number))

    async def overflowed() -> bool:
        return any(each.overflowed for each in route._feed.fanout.subscriptions())

    await eventually(overflowed)
    client.blocked.set()
    await client.until("event: stream.overflow")
    assert client.ended
    assert client.ids == [f"m{number}.1" for number in range(1, len(client.ids) + 1)]
    assert len(client.ids) < 6
    await asyncio.wait_for(client.task, 60)
    again = Client(route, last_event_id=f"a-{len(client.ids)}-64")
    await again.until("m6.1")
    assert again.ids == [f"m{number}.1" for number in range(len(client.ids) + 1, 7)]


async def test_who_reads_nothing_is_given_up(
    route: EventRoute, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "STALLED", 0.1)
    client = Client(route)
    await client.until(": connected")
    client.blocked.clear()
    await log.add(watched(1))
    await asyncio.wait_for(client.task, 60)
    assert route._open == 0


async def test_draining_tells_watchers_to_come_back(
    route: EventRoute, draining: asyncio.Event, log: Log
) -> None:
    clients = [Client(route) for _ in range(3)]
    for client in clients:
        await client.until(": connected")
    draining.set()
    for client in clients:
        await client.until("retry: ", "event: stream.reconnect")
        await asyncio.wait_for(client.task, 60)
        assert client.ended
    late = Client(route)
    await asyncio.wait_for(late.task, 60)
    assert late.status == 503
    assert log.calls


@pytest.mark.parametrize("limits", [EventLimits(streams=1)])
async def test_streams_are_bounded(route: EventRoute, log: Log) -> None:
    first = Client(route)
    await first.until(": connected")
    second = Client(route)
    await asyncio.wait_for(second.task, 60)
    assert second.status == 429
    await first.leave()
    third = Client(route)
    await third.until(": connected")
    assert log.calls
