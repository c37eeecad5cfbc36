"""Calls to the services: stubs, deadline, metadata, and typed errors for what goes wrong."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from starlette.requests import Request

from gateway.identity import Metadata, call_metadata
from posthouse.v1 import (
    auth_service_pb2_grpc,
    conversation_service_pb2_grpc,
    dispatch_service_pb2_grpc,
    message_service_pb2_grpc,
    privacy_service_pb2_grpc,
    subscription_service_pb2_grpc,
)
from services.kit.errors import OverloadedError, PosthouseError, UnavailableError
from services.kit.status import from_rpc_error

if TYPE_CHECKING:
    from posthouse.v1.auth_service_pb2_grpc import AuthServiceAsyncStub
    from posthouse.v1.conversation_service_pb2_grpc import ConversationServiceAsyncStub
    from posthouse.v1.dispatch_service_pb2_grpc import DispatchServiceAsyncStub
    from posthouse.v1.message_service_pb2_grpc import MessageServiceAsyncStub
    from posthouse.v1.privacy_service_pb2_grpc import PrivacyServiceAsyncStub
    from posthouse.v1.subscription_service_pb2_grpc import SubscriptionServiceAsyncStub

_Req = TypeVar("_Req")
_Res = TypeVar("_Res")

# Seconds a call may take. After it the caller is told to come back, and may do so with the same key.
CALL_TIMEOUT = 15.0

_NO_ANSWER = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
)


@dataclass(frozen=True, slots=True)
class Backends:
    """The services as the gateway calls them."""

    message: "MessageServiceAsyncStub"
    conversation: "ConversationServiceAsyncStub"
    dispatch: "DispatchServiceAsyncStub"
    # In the process of MessageService.
    auth: "AuthServiceAsyncStub"
    # The same.
    privacy: "PrivacyServiceAsyncStub"
    # In the process of ConversationService.
    subscription: "SubscriptionServiceAsyncStub"

    @classmethod
    def over(
        cls, message: grpc.aio.Channel, conversation: grpc.aio.Channel, dispatch: grpc.aio.Channel
    ) -> "Backends":
        """Return the services behind three open channels."""
        return cls(
            message_service_pb2_grpc.MessageServiceStub(message),
            conversation_service_pb2_grpc.ConversationServiceStub(conversation),
            dispatch_service_pb2_grpc.DispatchServiceStub(dispatch),
            auth_service_pb2_grpc.AuthServiceStub(message),
            privacy_service_pb2_grpc.PrivacyServiceStub(message),
            subscription_service_pb2_grpc.SubscriptionServiceStub(conversation),
        )


async def call(
    method: "grpc.aio.UnaryUnaryMultiCallable[_Req, _Res]",
    message: _Req,
    request: Request,
    *,
    seconds: float = CALL_TIMEOUT,
) -> _Res:
    """Call a method on behalf of an HTTP request; raises the typed error the service answered with."""
    return await call_with(method, message, call_metadata(request), seconds=seconds)


async def call_with(
    method: "grpc.aio.UnaryUnaryMultiCallable[_Req, _Res]",
    message: _Req,
    metadata: Metadata,
    *,
    seconds: float = CALL_TIMEOUT,
) -> _Res:
    """Call a method with metadata already made; raises the typed error the service answered with."""
    try:
        return await method(message, metadata=metadata, timeout=seconds)
    except grpc.aio.AioRpcError as error:
        raise typed(error) from None


def typed(error: grpc.aio.AioRpcError) -> PosthouseError:
    """Return the typed error behind a failed call; the transport's own texts stay inside."""
    if not _is_rich(error):
        if error.code() in _NO_ANSWER:
            return UnavailableError("a service behind the gateway does not answer", retry_after=1)
        if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return OverloadedError("a service behind the gateway is at its limit", retry_after=1)
    return from_rpc_error(error)


def _is_rich(error: grpc.aio.AioRpcError) -> bool:
    metadata: Any = error.trailing_metadata()
    return any(key == "grpc-status-details-bin" for key, _ in metadata or ())
