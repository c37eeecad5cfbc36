"""The one place where calls are let in or refused: who calls, and whether its scopes allow the RPC."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from services.kit.authentication import Authenticator
from services.kit.callers import Caller, set_caller
from services.kit.errors import ForbiddenError, PosthouseError
from services.kit.rpc_handlers import Behaviour, unparsed, wrapped
from services.kit.scopes import (
    ANY,
    INGEST_WEBHOOK,
    INGEST_WEBHOOKS,
    SCOPE_OF_METHOD,
    WATCH_EVENTS,
    check_scope,
)

# Service names by what the settings call them, and may open to everyone.
_ENDPOINTS = {"/grpc.health.": "health", "/grpc.reflection.": "reflection"}
# Providers have no credentials of ours: their signatures are checked behind the gateway.
_SIGNED = frozenset({INGEST_WEBHOOK, INGEST_WEBHOOKS})


class AuthInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg] # generic in its stubs only
    """Authenticates every call before its request is parsed; streams again before each answer."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the handler of a call, or one that refuses it."""
        handler = await continuation(details)
        if handler is None:
            return handler
        metadata: Any = details.invocation_metadata

        async def check() -> Caller | None:
            return await self._check(details.method, metadata)

        try:
            caller = await check()
        except PosthouseError as error:
            return unparsed(handler, _refusing(error, streams=handler.response_streaming))
        return wrapped(
            handler,
            unary=lambda behaviour: _unary(behaviour, caller),
            stream=lambda behaviour: _stream(behaviour, caller, check),
        )

    async def _check(self, method: str, metadata: Any) -> Caller | None:
        """Return who makes a call; None where everyone may. Raises the error of a refusal."""
        authenticator = self._authenticator
        endpoint = next((name for start, name in _ENDPOINTS.items() if method.startswith(start)), None)
        if endpoint in authenticator.open_endpoints:
            return None
        if (method in _SIGNED or endpoint is not None) and authenticator.is_gateway(metadata):
            return None
        # The gateway reads the events of all its watchers by one call, and checks each watcher by itself.
        if method == WATCH_EVENTS and authenticator.speaks_for_itself(metadata):
            return None
        caller = await authenticator.authenticate(metadata)
        needed = ANY if endpoint is not None else SCOPE_OF_METHOD.get(method)
        if needed is None:
            raise ForbiddenError("no scope allows this call")
        check_scope(caller.scopes, needed)
        return caller


def _unary(behaviour: Behaviour, caller: Caller | None) -> Behaviour:
    async def call(request: Any, context: Any) -> Any:
        set_caller(caller)
        return await behaviour(request, context)

    return call


def _stream(
    behaviour: Behaviour, caller: Caller | None, check: Callable[[], Awaitable[Caller | None]]
) -> Behaviour:
    async def call(request: Any, context: Any) -> AsyncIterator[Any]:
        set_caller(caller)
        responses = behaviour(request, context)
        if not hasattr(responses, "__aiter__"):  # the health service's Watch writes them by itself
            await responses
            return
        async for response in responses:
            # A watcher whose key was revoked sees nothing that happens afterwards.
            await check()
            yield response

    return call


def _refusing(error: PosthouseError, *, streams: bool) -> Behaviour:
    """Return a behaviour that raises; without a deserialiser the request is never parsed."""

    async def refuse(_request: Any, _context: Any) -> Any:
        raise error

    async def refuse_stream(_request: Any, _context: Any) -> AsyncIterator[Any]:
        raise error
        yield  # what makes it a stream

    return refuse_stream if streams else refuse
