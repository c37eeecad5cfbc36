"""Scripted services behind real gRPC: each method answers with a value, an error or a function."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1 import health_pb2_grpc as health_grpc
from grpc_health.v1._async import HealthServicer

from posthouse.v1 import (
    auth_service_pb2,
    auth_service_pb2_grpc,
    conversation_service_pb2,
    conversation_service_pb2_grpc,
    dispatch_service_pb2,
    dispatch_service_pb2_grpc,
    message_pb2,
    message_service_pb2,
    message_service_pb2_grpc,
    privacy_service_pb2,
    privacy_service_pb2_grpc,
    subscription_service_pb2,
    subscription_service_pb2_grpc,
)
from services.kit.errors import NotImplementedYetError
from services.kit.server import ErrorInterceptor

pb = message_service_pb2

_SERVICES = [
    (auth_service_pb2, auth_service_pb2_grpc, "AuthService"),
    (privacy_service_pb2, privacy_service_pb2_grpc, "PrivacyService"),
    (message_service_pb2, message_service_pb2_grpc, "MessageService"),
    (conversation_service_pb2, conversation_service_pb2_grpc, "ConversationService"),
    (dispatch_service_pb2, dispatch_service_pb2_grpc, "DispatchService"),
    (subscription_service_pb2, subscription_service_pb2_grpc, "SubscriptionService"),
]


@dataclass
class Seen:
    method: str
    request: Any
    metadata: dict[str, str]


@dataclass
class Fakes:
    """All services on one port. A method that is not scripted is UNIMPLEMENTED."""

    answers: dict[str, Any] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    port: int = 0
    health: HealthServicer = field(default_factory=HealthServicer)

    def only(self, method: str) -> Seen:
        (seen,) = [each for each in self.seen if each.method == method]
        return seen

    async def start(self, *guards: Any) -> grpc.aio.Server:
        server = grpc.aio.server(interceptors=[ErrorInterceptor(), *guards])
        for messages, stubs, name in _SERVICES:
            base = getattr(stubs, f"{name}Servicer")
            methods = messages.DESCRIPTOR.services_by_name[name].methods
            handlers = {
                method.name: self._stream(method.name)
                if method.name == "WatchEvents"
                else self._unary(method.name)
                for method in methods
            }
            getattr(stubs, f"add_{name}Servicer_to_server")(type(name, (base,), handlers)(), server)
            await self.serving(f"posthouse.v1.{name}")
        for dependency in ("postgresql", "nats", "outbox", "providers", "monitor"):
            await self.serving(dependency)
        health_grpc.add_HealthServicer_to_server(self.health, server)
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        await server.start()
        return server

    async def serving(self, name: str, yes: bool = True) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if yes else health_pb2.HealthCheckResponse.NOT_SERVING
        await self.health.set(name, status)

    def _note(self, method: str, request: Any, context: Any) -> Any:
        self.seen.append(Seen(method, request, dict(context.invocation_metadata() or ())))
        answer = self.answers.get(method)
        if answer is None:
            raise NotImplementedYetError(f"{method} is not implemented yet")
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _unary(self, method: str) -> Callable[..., Any]:
        async def handle(_self: Any, request: Any, context: Any) -> Any:
            answer = self._note(method, request, context)
            return await answer(request) if callable(answer) else answer

        return handle

    def _stream(self, method: str) -> Callable[..., Any]:
        async def handle(_self: Any, request: Any, context: Any) -> AsyncIterator[Any]:
            answer = self._note(method, request, context)
            async for item in answer(request):
                yield item

        return handle


def accepted(request: pb.SendMessageRequest, number: int = 0, **fields: Any) -> pb.AcceptedMessage:
    message = pb.AcceptedMessage(
        id=f"id-{request.body}-{number}",
        conversation_id="conversation",
        channel=request.channel or message_pb2.CHANNEL_SMS,
        state=message_pb2.MESSAGE_STATE_PENDING,
        sender=request.sender,
        recipient=request.recipient,
        segment_count=1,
        segment_encoding=message_pb2.SEGMENT_ENCODING_GSM7,
        **fields,
    )
    message.create_time.FromJsonString("2026-11-22T01:02:03.5Z")
    return message


def ingested(**fields: Any) -> Callable[[pb.IngestWebhooksRequest], Awaitable[pb.IngestWebhooksResponse]]:
    """Return what answers every request of IngestWebhooks the same."""

    async def answer(request: pb.IngestWebhooksRequest) -> pb.IngestWebhooksResponse:
        one = pb.WebhookResult(response=pb.IngestWebhookResponse(**fields))
        return pb.IngestWebhooksResponse(results=[one] * len(request.requests))

    return answer


async def accept_all(request: pb.SendMessagesRequest) -> pb.SendMessagesResponse:
    return pb.SendMessagesResponse(
        results=[pb.SendResult(message=accepted(each)) for each in request.requests]
    )
