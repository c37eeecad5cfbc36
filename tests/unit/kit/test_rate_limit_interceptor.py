"""gRPC callers meet their limits on a real server, with the details a client can act on."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from posthouse.v1 import conversation_service_pb2 as conversation_pb
from posthouse.v1 import conversation_service_pb2_grpc as conversation_grpc
from posthouse.v1 import message_service_pb2 as pb
from posthouse.v1 import message_service_pb2_grpc as pb_grpc
from services.kit.client import open_channel
from services.kit.config import Settings
from services.kit.rate_limit_clients import Clients
from services.kit.rate_limit_interceptor import RateLimitInterceptor
from services.kit.rate_limits import RateLimiter
from services.kit.server import RpcServer
from services.kit.status import from_rpc_error

LIMIT = 3
TOKEN = "token-of-the-gateway"
GET = pb.GetMessageRequest()


class Messages(pb_grpc.MessageServiceServicer):
    async def GetMessage(self, _request: Any, _context: Any) -> pb.GetMessageResponse:  # noqa: N802
        return pb.GetMessageResponse()

    async def ListMessages(self, _request: Any, _context: Any) -> pb.ListMessagesResponse:  # noqa: N802
        return pb.ListMessagesResponse()

    async def IngestWebhook(self, _request: Any, _context: Any) -> pb.IngestWebhookResponse:  # noqa: N802
        return pb.IngestWebhookResponse()

    async def IngestWebhooks(self, _request: Any, _context: Any) -> pb.IngestWebhooksResponse:  # noqa: N802
        return pb.IngestWebhooksResponse()


class Conversations(conversation_grpc.ConversationServiceServicer):
    async def WatchEvents(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        yield conversation_pb.WatchEventsResponse(event_id="1")


# Only what the tests call is there.
for _kind in (Messages, Conversations):
    _kind.__abstractmethods__ = frozenset()


@dataclass
class Peer:
    messages: Any
    conversations: Any
    health: Any


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    settings = Settings.model_validate({"rate_limit_requests": LIMIT, "log_level": "error"})
    clients = Clients(bulk="bulk=5", gateway_token=TOKEN)
    limiter = RateLimiter.build(settings)
    server = RpcServer(
        settings,
        0,
        "posthouse.v1.MessageService",
        interceptors=RateLimitInterceptor.build(settings, limiter, clients),
    )
    pb_grpc.add_MessageServiceServicer_to_server(Messages(), server.server)  # type: ignore[abstract]
    conversation_grpc.add_ConversationServiceServicer_to_server(Conversations(), server.server)  # type: ignore[abstract]
    await server.start()
    channel = open_channel(f"127.0.0.1:{server.port}")
    yield Peer(
        pb_grpc.MessageServiceStub(channel),
        conversation_grpc.ConversationServiceStub(channel),
        health_pb2_grpc.HealthStub(channel),
    )
    await channel.close(None)
    await server.stop()


async def passed(method: Any, request: Any, metadata: Sequence[tuple[str, str]] = ()) -> int:
    """Return how many of ten calls pass; the others must be refused by the limit."""
    count = 0
    for _ in range(10):
        try:
            await method(request, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            assert from_rpc_error(error).reason == "RATE_LIMITED"  # noqa: PT017 - others pass
        else:
            count += 1
    return count


async def test_a_refusal_has_everything_a_client_needs(peer: Peer) -> None:
    for _ in range(LIMIT):
        await peer.messages.GetMessage(GET)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await peer.messages.GetMessage(GET)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    status: Any = rpc_status.from_call(refused.value)  # type: ignore[arg-type]
    kinds = [detail.TypeName() for detail in status.details]
    assert kinds == ["google.rpc.ErrorInfo", "google.rpc.QuotaFailure", "google.rpc.RetryInfo"]
    info, failure, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.QuotaFailure(),
        error_details_pb2.RetryInfo(),
    )
    for detail, kind in zip(status.details, (info, failure, retry), strict=True):
        detail.Unpack(kind)
    assert (info.reason, info.domain) == ("RATE_LIMITED", "posthouse")
    assert failure.violations[0].subject == "ip:127.0.0.1 /posthouse.v1.MessageService/GetMessage"
    assert "3 requests per 60 s" in failure.violations[0].description
    assert 59 < retry.retry_delay.ToNanoseconds() / 1e9 < 61
    assert from_rpc_error(refused.value).quotas[0].subject == failure.violations[0].subject


async def test_each_client_and_method_has_a_limit_of_its_own(peer: Peer) -> None:
    assert await passed(peer.messages.GetMessage, GET) == LIMIT
    assert await passed(peer.messages.ListMessages, pb.ListMessagesRequest()) == LIMIT
    assert await passed(peer.messages.GetMessage, GET, [("x-api-key", "k1")]) == LIMIT
    assert await passed(peer.messages.GetMessage, GET, [("authorization", "Bearer k1")]) == 0
    assert await passed(peer.messages.GetMessage, GET, [("x-api-key", "bulk")]) == 5


async def test_streams_are_limited_too(peer: Peer) -> None:
    seen = 0
    for _ in range(5):
        try:
            async for _ in peer.conversations.WatchEvents(conversation_pb.WatchEventsRequest()):
                seen += 1
        except grpc.aio.AioRpcError as error:
            assert from_rpc_error(error).reason == "RATE_LIMITED"  # noqa: PT017 - others pass
    assert seen == LIMIT


async def test_the_gateway_is_not_limited_a_second_time(peer: Peer) -> None:
    token = [("x-posthouse-gateway", TOKEN), ("x-posthouse-address", "198.51.100.7")]
    assert await passed(peer.messages.GetMessage, GET, token) == 10
    assert await passed(peer.messages.GetMessage, GET, [("x-posthouse-gateway", "forged")]) == LIMIT


async def test_health_and_webhooks_are_exempt(peer: Peer) -> None:
    assert await passed(peer.health.Check, health_pb2.HealthCheckRequest()) == 10
    assert await passed(peer.messages.IngestWebhook, pb.IngestWebhookRequest()) == 10
    assert await passed(peer.messages.IngestWebhooks, pb.IngestWebhooksRequest()) == 10
