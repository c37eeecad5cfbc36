"""Limits gRPC callers per client and method, as the gateway limits HTTP callers per client and endpoint."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from services.kit.config import Settings
from services.kit.rate_limit_clients import Clients
from services.kit.rate_limits import RateLimiter
from services.kit.rpc_handlers import Behaviour, wrapped
from services.kit.scopes import INGEST_WEBHOOK, INGEST_WEBHOOKS
from services.kit.sliding_window import Quota

_OURS = "/posthouse."
# Providers cannot slow down; what they report would be lost.
_EXEMPT = frozenset({INGEST_WEBHOOK, INGEST_WEBHOOKS})


class RateLimitInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg] # generic in its stubs only
    """Refuses calls over the limit with RESOURCE_EXHAUSTED. Health, reflection and our gateway are exempt."""

    def __init__(self, limiter: RateLimiter, clients: Clients, limit: int) -> None:
        self._limiter = limiter
        self._clients = clients
        self._limit = limit

    @classmethod
    def build(
        cls, settings: Settings, limiter: RateLimiter | None, clients: Clients
    ) -> "list[RateLimitInterceptor]":
        """Return the interceptor of a server, none when nothing is limited."""
        return [] if limiter is None else [cls(limiter, clients, settings.rate_limit_requests)]

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of a call."""
        handler = await continuation(details)
        method = details.method
        if handler is None or not method.startswith(_OURS) or method in _EXEMPT:
            return handler
        if self._clients.is_gateway(details.invocation_metadata):
            return handler
        return wrapped(
            handler,
            unary=lambda behaviour: self._unary(method, behaviour),
            stream=lambda behaviour: self._stream(method, behaviour),
        )

    def _unary(self, method: str, behaviour: Behaviour) -> Behaviour:
        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            await self._admit(method, context)
            return await behaviour(request, context)

        return call

    def _stream(self, method: str, behaviour: Behaviour) -> Behaviour:
        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            await self._admit(method, context)
            async for response in behaviour(request, context):
                yield response

        return call

    async def _admit(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        metadata: Any = context.invocation_metadata()
        client = self._clients.of_call(metadata, context.peer())
        quota = Quota("request", f"{client.key} {method}", max(self._limit, client.limit))
        had, verdict = await self._limiter.take([quota])
        if not had:
            raise self._limiter.refusal(verdict)
