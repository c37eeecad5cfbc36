"""The Python client against a server that fails as told: what is retried, with which key, what is raised."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent import futures
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from grpc_status import rpc_status

from posthouse.v1 import conversation_service_pb2 as conversation_pb
from posthouse.v1 import conversation_service_pb2_grpc, message_pb2, message_service_pb2_grpc
from posthouse.v1 import message_service_pb2 as message_pb
from posthouse_client import (
    AsyncPosthouse,
    InvalidRequestError,
    NotDeliveredError,
    Options,
    Outgoing,
    OverloadedError,
    Posthouse,
    PosthouseError,
    RateLimitedError,
    UnavailableError,
    Violation,
    WaitTimeoutError,
)
from posthouse_client.retrying import Retries
from services.kit.errors import (
    InvalidRequestError as RefusedByServer,
)
from services.kit.errors import (
    OverloadedError as OverloadedServer,
)
from services.kit.errors import (
    PosthouseError as ServerError,
)
from services.kit.errors import (
    RateLimitedError as LimitedByServer,
)
from services.kit.errors import (
    UnavailableError as ServerAway,
)
from services.kit.status import to_item_error, to_status

_SMS = {"sender": "+15551234567", "recipient": "+15559876543", "body": "Hello"}


class _Messages(message_service_pb2_grpc.MessageServiceServicer):
    """Fails with the errors it is given, one a call, and notes what it is asked."""

    def __init__(self) -> None:
        self.errors: list[ServerError] = []
        self.item_errors: list[ServerError] = []
        self.requests: list[Any] = []
        self.metadata: list[dict[str, Any]] = []
        self.state = message_pb2.MESSAGE_STATE_DELIVERED

    def SendMessage(self, request: Any, context: grpc.ServicerContext) -> message_pb.SendMessageResponse:  # noqa: N802
        self._note(request, context)
        return message_pb.SendMessageResponse(message=message_pb.AcceptedMessage(id=request.request_id))

    def SendMessages(self, request: Any, context: grpc.ServicerContext) -> message_pb.SendMessagesResponse:  # noqa: N802
        self._note(request, context)
        results = []
        for item in request.requests:
            if item.body == "bad" and self.item_errors:
                results.append(message_pb.SendResult(error=to_item_error(self.item_errors.pop(0))))
            else:
                accepted = message_pb.AcceptedMessage(id=item.request_id)
                results.append(message_pb.SendResult(message=accepted))
        return message_pb.SendMessagesResponse(results=results)

    def GetMessage(self, request: Any, context: grpc.ServicerContext) -> message_pb.GetMessageResponse:  # noqa: N802
        self._note(request, context)
        return message_pb.GetMessageResponse(
            message=message_pb2.Message(id=request.message_id, state=self.state, error_code="30003")
        )

    def _note(self, request: Any, context: grpc.ServicerContext) -> None:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        if self.errors:
            context.abort_with_status(rpc_status.to_status(to_status(self.errors.pop(0))))


class _Conversations(conversation_service_pb2_grpc.ConversationServiceServicer):
    """Streams two events a call and breaks off, and notes where it is asked to resume.

    A quiet one has nothing to tell until it is left alone.
    """

    def __init__(self) -> None:
        self.after: list[str] = []
        self.quiet = False

    def WatchEvents(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:  # noqa: N802
        self.after.append(request.after_event_id)
        place = int(request.after_event_id or 0)
        yield conversation_pb.WatchEventsResponse(event_id=str(place))
        if self.quiet:
            left = threading.Event()
            context.add_callback(left.set)
            left.wait()
            return
        for number in (place + 1, place + 2):
            yield conversation_pb.WatchEventsResponse(event_id=str(number), event={"id": f"m.{number}"})
        context.abort_with_status(rpc_status.to_status(to_status(ServerAway("stopping", retry_after=0.01))))


class _CancelledError(ServerError):
    """What gRPC's core answers for a server that stops."""

    code = grpc.StatusCode.CANCELLED


@pytest.fixture
def server() -> Iterator[tuple[str, _Messages, _Conversations]]:
    messages, conversations = _Messages(), _Conversations()
    running = grpc.server(futures.ThreadPoolExecutor(4))
    message_service_pb2_grpc.add_MessageServiceServicer_to_server(messages, running)
    conversation_service_pb2_grpc.add_ConversationServiceServicer_to_server(conversations, running)
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    yield f"127.0.0.1:{port}", messages, conversations
    running.stop(None).wait()


class _Inline:
    """The blocking client with the asynchronous one's face, so that one test is for both."""

    def __init__(self, client: Posthouse) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any, **options: Any) -> Any:
            return getattr(self._client, name)(*arguments, **options)

        return call


@pytest.fixture(params=["sync", "async"])
async def client(
    request: pytest.FixtureRequest, server: tuple[str, _Messages, _Conversations]
) -> AsyncIterator[Any]:
    options = {"conversation_target": server[0], "api_key": "ph_key", "attempts": 3, "timeout": 60}
    if request.param == "sync":
        with Posthouse(server[0], **options) as blocking:
            yield _Inline(blocking)
    else:
        async with AsyncPosthouse(server[0], **options) as asynchronous:
            yield asynchronous


async def test_a_retry_carries_the_same_key(client: Any, server: Any) -> None:
    server[1].errors = [ServerAway("away"), OverloadedServer("full", retry_after=0.01)]
    sent = await client.send(**_SMS)
    keys = {request.request_id for request in server[1].requests}
    assert len(server[1].requests) == 3
    assert keys == {sent.id}
    assert sent.id
    assert server[1].metadata[0]["x-api-key"] == "ph_key"


async def test_a_call_that_a_stopping_server_never_began_is_repeated(client: Any, server: Any) -> None:
    _, messages, _ = server
    messages.errors = [_CancelledError("shut down")]
    await client.send(**_SMS)
    assert len(messages.requests) == 2


async def test_it_gives_up_after_its_attempts_and_tells_the_key(client: Any, server: Any) -> None:
    server[1].errors = [ServerAway("away") for _ in range(5)]
    with pytest.raises(UnavailableError, match="DEPENDENCY_UNAVAILABLE: away") as caught:
        await client.send(**_SMS)
    assert len(server[1].requests) == 3
    assert caught.value.request_id == server[1].requests[0].request_id


async def test_a_refusal_names_the_field_and_is_not_repeated(client: Any, server: Any) -> None:
    server[1].errors = [RefusedByServer.field("recipient", "no address")]
    with pytest.raises(InvalidRequestError) as caught:
        await client.send(**_SMS, request_id="order-1")
    assert caught.value.violations == (Violation("recipient", "no address"),)
    assert caught.value.reason == "INVALID_FIELD"
    assert [request.request_id for request in server[1].requests] == ["order-1"]


async def test_a_long_wish_of_the_server_is_left_to_the_caller(client: Any, server: Any) -> None:
    server[1].errors = [LimitedByServer("slow down", retry_after=60)]
    with pytest.raises(RateLimitedError) as caught:
        await client.send(**_SMS)
    assert caught.value.retry_after == 60
    assert len(server[1].requests) == 1


async def test_many_are_cut_into_calls_and_only_what_failed_is_sent_again(client: Any, server: Any) -> None:
    server[1].item_errors = [
        OverloadedServer("full", retry_after=0.01),
        RefusedByServer.field("body", "no good"),
    ]
    messages = [Outgoing(**_SMS) for _ in range(1001)]  # type: ignore[arg-type]
    messages[3] = Outgoing(**{**_SMS, "body": "bad"})  # type: ignore[arg-type]
    messages[1000] = Outgoing(**{**_SMS, "body": "bad"})  # type: ignore[arg-type]
    results = await client.send_many(messages)
    calls = [len(request.requests) for request in server[1].requests]
    assert calls == [1000, 1, 1]
    assert len(results) == 1001
    assert server[1].requests[1].requests[0].request_id == results[3].request_id
    assert isinstance(results[3], InvalidRequestError)
    assert sum(isinstance(result, PosthouseError) for result in results) == 1
    assert results[1000].id == server[1].requests[2].requests[0].request_id


async def test_many_never_raise(client: Any, server: Any) -> None:
    server[1].errors = [ServerAway("away") for _ in range(3)]
    results = await client.send_many([Outgoing(**_SMS), Outgoing(**_SMS)])  # type: ignore[arg-type]
    assert [type(result) for result in results] == [UnavailableError, UnavailableError]
    assert len({result.request_id for result in results}) == 2
    assert await client.send_many([]) == []


async def test_what_can_be_no_message_takes_nothing_from_the_others(client: Any, server: Any) -> None:
    naive = Outgoing(**_SMS, send_time=datetime(2030, 1, 1), request_id="mine")  # type: ignore[arg-type] # noqa: DTZ001
    wrong: Any = Outgoing(**_SMS, priority="urgent")  # type: ignore[arg-type]
    right: Any = Outgoing(**_SMS)  # type: ignore[arg-type]
    first, second, third, fourth = await client.send_many([right, naive, right, wrong])
    assert (first.id, third.id) == tuple(item.request_id for item in server[1].requests[0].requests)
    assert (type(second), second.reason, second.request_id) == (InvalidRequestError, "INVALID_FIELD", "mine")
    assert "no time zone" in str(second)
    assert isinstance(fourth, InvalidRequestError)
    assert [type(result) for result in await client.send_many([wrong])] == [InvalidRequestError]
    assert len(server[1].requests) == 1


async def test_waiting_ends_with_the_message(client: Any, server: Any) -> None:
    assert (await client.wait_until_delivered("m")).id == "m"
    server[1].state = message_pb2.MESSAGE_STATE_SENT
    assert (await client.wait_until_delivered("m", sent_is_enough=True)).id == "m"
    with pytest.raises(WaitTimeoutError, match="not delivered in time"):
        await client.wait_until_delivered("m", timeout=0)
    server[1].state = message_pb2.MESSAGE_STATE_UNDELIVERED
    with pytest.raises(NotDeliveredError, match="message m is undelivered 30003"):
        await client.wait_until_delivered("m")


async def test_a_broken_watch_goes_on_where_it_broke(client: Any, server: Any) -> None:
    watch = await client.watch(participant="+15559876543", after="7")
    seen: list[str] = []
    if isinstance(client, _Inline):
        for update in watch:
            seen.append(update.event.id)
            if len(seen) == 5:
                break
    else:
        async for update in watch:
            seen.append(update.event.id)
            if len(seen) == 5:
                break
    watch.close()
    assert seen == ["m.8", "m.9", "m.10", "m.11", "m.12"]
    assert server[2].after[:3] == ["7", "9", "11"]


@pytest.mark.parametrize("what", ["watch", "client"])
async def test_closing_ends_the_loop_over_a_watch(client: Any, server: Any, what: str) -> None:
    server[2].quiet = True
    watch = await client.watch()
    assert server[2].after == [""]

    async def follow() -> str:
        async for _ in watch:
            raise AssertionError("nothing happens")
        return "ended"

    if isinstance(client, _Inline):
        loop = asyncio.create_task(asyncio.to_thread(lambda: "ended" if not list(watch) else ""))
    else:
        loop = asyncio.create_task(follow())
    # Whether it has begun to read by then makes no difference.
    await asyncio.sleep(0)
    if what == "watch":
        watch.close()
    else:
        await client.close()
    assert await asyncio.wait_for(loop, 60) == "ended"
    assert server[2].after == [""]


async def test_a_cancelled_task_stays_cancelled_however_its_watch_ends(server: Any) -> None:
    server[2].quiet = True
    async with AsyncPosthouse(server[0], conversation_target=server[0], timeout=60) as client:
        watch = await client.watch()

        async def follow() -> None:
            async for _ in watch:
                raise AssertionError("nothing happens")

        loop = asyncio.create_task(follow())
        await asyncio.sleep(0)
        loop.cancel()
        watch.close()
        await asyncio.wait([loop])
        assert loop.cancelled()


def test_pauses_grow_and_follow_the_server() -> None:
    retries = Retries(attempts=9, first_pause=1, longest_pause=4, draw=lambda: 1.0)
    away = UnavailableError(grpc.StatusCode.UNAVAILABLE, "away", reason="X")
    assert [retries.pause_after(away) for _ in range(4)] == [1, 2, 4, 4]
    busy = OverloadedError(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", reason="X", retry_after=3)
    retries.reset()
    assert retries.pause_after(busy) == 3


def test_times_need_a_zone() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        Outgoing(**_SMS, send_time=datetime(2030, 1, 1)).to_request()  # type: ignore[arg-type] # noqa: DTZ001
    request = Outgoing(**_SMS, send_time=datetime(2030, 1, 1, tzinfo=UTC), channel="sms").to_request()  # type: ignore[arg-type]
    assert request.send_time.ToJsonString() == "2030-01-01T00:00:00Z"
    assert request.channel == message_pb2.CHANNEL_SMS


def test_options_are_checked_at_once() -> None:
    with pytest.raises(ValueError, match="not both"):
        Options(api_key="a", token="b")
    with pytest.raises(ValueError, match="needs its key"):
        Options(certificate="a.pem")
    with pytest.raises(ValueError, match="give conversation_target"):
        _ = Options("dns:///posthouse").watched
    assert Options("[::1]:50051").watched == "[::1]:50052"
    assert Options(token="jwt").metadata == (("authorization", "Bearer jwt"),)
