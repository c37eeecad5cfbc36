"""Routes that providers call: the request goes to MessageService as it came, and its answer comes back."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from gateway.routing import API, ResponseDocs, router
from gateway.rpc import CALL_TIMEOUT, Backends, call
from posthouse.v1 import message_service_pb2 as pb

_ANSWERED: ResponseDocs = {
    200: {"description": "Committed, or known already. The body is what the provider expects."}
}


# Bytes of a body from which on few are taken at a time, and how many; the others wait, unread.
_LARGE = 1_048_576
_MOST_LARGE = 4
# Seconds their transaction may take.
_LARGE_TIMEOUT = 60.0


class WebhookRoutes:
    """Takes webhooks in. The body is never parsed here: signatures cover its bytes."""

    def __init__(self, backends: Backends) -> None:
        self._message = backends.message
        # Bodies that are several times in memory while they are passed on.
        self._large = asyncio.Semaphore(_MOST_LARGE)

    def router(self) -> APIRouter:
        """Return the routes."""
        routes = router("", "webhooks")
        add = routes.add_api_route
        add(f"{API}/webhooks/{{provider}}", self.ingest, methods=["POST"],
            summary="Take a provider's webhook", responses=_ANSWERED)  # fmt: skip
        for path in ("/webhook/twilio/sms", "/webhook/twilio/status"):
            add(path, self.ingest_twilio, methods=["POST"], summary="Take a webhook of Twilio",
                operation_id=path.strip("/").replace("/", "_"), responses=_ANSWERED)  # fmt: skip
        return routes

    async def ingest(
        self, request: Request, provider: Annotated[str, Path(examples=["simulator"])]
    ) -> Response:
        """Verify, store and apply what a provider reports; a repeat changes nothing."""
        return await self._ingest(request, provider)

    async def ingest_twilio(self, request: Request) -> Response:
        """Verify, store and apply what Twilio reports; a repeat changes nothing."""
        return await self._ingest(request, "twilio")

    async def _ingest(self, request: Request, provider: str) -> Response:
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length[:20]) <= _LARGE:
            return await self._pass_on(request, provider)
        async with self._large:
            return await self._pass_on(request, provider, seconds=_LARGE_TIMEOUT)

    async def _pass_on(self, request: Request, provider: str, *, seconds: float = CALL_TIMEOUT) -> Response:
        message = pb.IngestWebhookRequest(
            provider=provider,
            method=request.method,
            url=called_url(request),
            headers=[
                pb.Header(name=name.decode("latin-1"), value=value.decode("latin-1"))
                for name, value in request.scope["headers"]
            ],
            body=await request.body(),
            remote_address=request.client.host if request.client else "",
        )
        response = await call(self._message.IngestWebhook, message, request, seconds=seconds)
        return Response(
            response.body,
            response.http_status or 200,
            {"content-type": response.content_type} if response.content_type else None,
        )


def called_url(request: Request) -> str:
    """Return the URL as the client called it: its own host name, path and query, byte for byte."""
    scope = request.scope
    host = request.headers.get("host")
    if not host:
        name, port = scope.get("server") or ("localhost", None)
        host = f"{name}:{port}" if port else name
    path = scope.get("raw_path") or scope["path"].encode()
    query = scope["query_string"]
    tail = b"?" + query if query else b""
    return f"{scope['scheme']}://{host}{(path + tail).decode('latin-1')}"
