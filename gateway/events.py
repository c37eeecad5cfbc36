"""GET /api/v1/events: what happens, as Server-Sent Events over WatchEvents."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated

import grpc
import orjson
from fastapi import APIRouter, Header, Query, Request
from starlette.responses import StreamingResponse

from gateway import problems, render
from gateway.identity import call_metadata
from gateway.routing import API, ResponseDocs, router
from gateway.rpc import Backends, typed
from posthouse.v1 import conversation_service_pb2 as pb
from services.kit.errors import OverloadedError

if TYPE_CHECKING:
    _Call = grpc.aio.UnaryStreamCall[pb.WatchEventsRequest, pb.WatchEventsResponse]

# Seconds between comment lines that keep proxies awake.
_HEARTBEAT = 15.0
# Seconds in which a refusal still becomes a plain problem instead of a broken stream.
_REFUSAL_WINDOW = 0.3
_MOST_STREAMS = 500

_STREAM: ResponseDocs = {
    200: {
        "description": "Events as they happen; `id` is the position to resume from with Last-Event-ID.",
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "example": 'id: 1042\nevent: sent\ndata: {"type": "sent", "status": "sent"}\n\n',
            }
        },
    }
}


class EventRoutes:
    """Streams events to as many watchers as it may; ends the streams when the gateway drains."""

    def __init__(
        self,
        backends: Backends,
        draining: asyncio.Event,
        *,
        heartbeat: float = _HEARTBEAT,
        most: int = _MOST_STREAMS,
    ) -> None:
        self._conversation = backends.conversation
        self._draining = draining
        self._heartbeat = heartbeat
        self._most = most
        self._open = 0

    def router(self) -> APIRouter:
        """Return the route."""
        routes = router(API, "events")
        routes.add_api_route(
            "/events",
            self.watch,
            methods=["GET"],
            summary="Watch what happens",
            response_class=StreamingResponse,
            responses=_STREAM,
        )
        return routes

    async def watch(
        self,
        request: Request,
        conversation_id: Annotated[str, Query(description="Only of this conversation.")] = "",
        participant: Annotated[str, Query(description="Only with this address, in any form.")] = "",
        last_event_id: Annotated[str, Header(description="Resume after this event.")] = "",
    ) -> StreamingResponse:
        """Stream events from now on, or from after the one in Last-Event-ID."""
        if self._open >= self._most:
            raise OverloadedError("too many event streams are open", retry_after=5)
        call = self._conversation.WatchEvents(
            pb.WatchEventsRequest(
                conversation_id=conversation_id, participant=participant, after_event_id=last_event_id
            ),
            metadata=call_metadata(request),
        )
        first = asyncio.create_task(call.read())
        try:
            await asyncio.wait({first}, timeout=_REFUSAL_WINDOW)
            if first.done():
                first.result()
        except grpc.aio.AioRpcError as error:
            raise typed(error) from None
        except asyncio.CancelledError:
            first.cancel()
            call.cancel()
            raise
        return StreamingResponse(
            self._stream(call, first, request),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    async def _stream(
        self, call: "_Call", reading: "asyncio.Task[object]", request: Request
    ) -> AsyncIterator[bytes]:
        draining: asyncio.Task[object] = asyncio.create_task(self._draining.wait())
        self._open += 1
        try:
            yield b": connected\n\n"
            while not self._draining.is_set():
                await asyncio.wait(
                    {reading, draining}, timeout=self._heartbeat, return_when=asyncio.FIRST_COMPLETED
                )
                if not reading.done():
                    yield b": keep-alive\n\n"
                    continue
                item = reading.result()
                if not isinstance(item, pb.WatchEventsResponse):
                    return
                yield _entry(item)
                reading = asyncio.create_task(call.read())
        except grpc.aio.AioRpcError as error:
            problem = problems.from_error(typed(error))
            members = problem.members(request.url.path, request.state.request_id)
            yield b"event: error\ndata: %b\n\n" % orjson.dumps(members)
        finally:
            self._open -= 1
            draining.cancel()
            reading.cancel()
            call.cancel()


def _entry(item: pb.WatchEventsResponse) -> bytes:
    position = f"id: {item.event_id}\n".encode() if item.event_id else b""
    if not item.HasField("event"):
        return b": heartbeat\n" + position + b"\n"
    data = orjson.dumps(render.event(item.event))
    return position + b"event: %b\ndata: %b\n\n" % (item.event.type.encode(), data)
