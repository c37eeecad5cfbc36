"""Routes of messages: batch, preview, reading, history, cancel, inbound."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response

from gateway import answers, problems, render, requests, schemas
from gateway.routing import API, documented, router
from gateway.rpc import Backends, call
from gateway.schemas import PageSize, PageToken
from posthouse.v1 import dispatch_service_pb2 as dispatch_pb
from posthouse.v1 import message_service_pb2 as pb
from services.kit.enum_names import CHANNEL, DIRECTION, STATE
from services.kit.status import from_item_error

_KEYED = Annotated[
    str | None, Header(description="Repeats of the batch get the first answers; see also idempotency_key.")
]
_PREVIEW_KEY = Annotated[
    str | None, Header(description="Of the send in question: whether it would be a repeat, or refused.")
]


class MessageRoutes:
    """Everything under /api/v1/messages but the hot send."""

    def __init__(self, backends: Backends) -> None:
        self._message = backends.message
        self._dispatch = backends.dispatch

    def router(self) -> APIRouter:
        """Return the routes."""
        routes = router(f"{API}/messages", "messages")
        add = routes.add_api_route
        add("/batch", self.send_messages, methods=["POST"],
            summary="Send up to 1,000 messages", status_code=207,
            responses=documented(answers.BatchResults, "One result per message.", 207))  # fmt: skip
        add("/preview", self.preview_message, methods=["POST"], summary="Check a message without sending it",
            responses=documented(answers.Preview, "What a send would do."))  # fmt: skip
        add("/receive", self.receive_messages, methods=["POST"],
            summary="Store inbound messages", status_code=207,
            responses=documented(answers.ReceiveResults, "One result per message.", 207))  # fmt: skip
        add("", self.list_messages, methods=["GET"], summary="List messages, newest first",
            responses=documented(answers.Messages, "One page."))  # fmt: skip
        add("/{message_id}", self.get_message, methods=["GET"], summary="Read one message",
            responses=documented(answers.Message, "The message."))  # fmt: skip
        add("/{message_id}/events", self.list_message_events, methods=["GET"],
            summary="Read a message's history",
            responses=documented(answers.MessageEvents, "One page, oldest first."))  # fmt: skip
        add("/{message_id}/attempts", self.list_dispatch_attempts, methods=["GET"],
            summary="List dispatch attempts",
            responses=documented(answers.Attempts, "All attempts, oldest first."))  # fmt: skip
        add("/{message_id}/cancel", self.cancel_message, methods=["POST"],
            summary="Cancel an unclaimed message",
            responses=documented(answers.Message, "The message, now cancelled."))  # fmt: skip
        add("/{message_id}/resolve", self.resolve_message, methods=["POST"],
            summary="Settle an unknown outcome",
            responses=documented(answers.Message, "The message after the change."))  # fmt: skip
        return routes

    async def send_messages(
        self, request: Request, body: schemas.BatchRequest, idempotency_key: _KEYED = None
    ) -> Response:
        """Accept each message on its own: `status` 202 with the message, or why it was refused."""
        shared = requests.idempotency_key(idempotency_key, request.scope["headers"])
        good, bad = requests.check_items(body.messages, schemas.BatchItem)
        results: list[render.Json] = [{}] * len(body.messages)
        if good:
            response = await call(
                self._message.SendMessages,
                pb.SendMessagesRequest(
                    requests=[
                        requests.send_request(item, _item_key(item, shared, position))
                        for position, item in good
                    ]
                ),
                request,
            )
            for (position, _), result in zip(good, response.results, strict=True):
                if result.HasField("error"):
                    error = from_item_error(result.error)
                    bad[position] = problems.from_error(error, item=f"messages[{position}]")
                else:
                    accepted = render.accepted(result.message)
                    results[position] = {
                        "status": 202,
                        "message": accepted,
                        "replayed": result.message.replayed,
                    }
        _put_problems(results, bad, request)
        return render.answer({"results": results}, 207)

    async def preview_message(
        self, request: Request, body: schemas.SendRequest, idempotency_key: _PREVIEW_KEY = None
    ) -> Response:
        """Run every check of a send and tell what would happen; nothing is stored or sent."""
        key = requests.idempotency_key(idempotency_key, request.scope["headers"])
        message = requests.send_request(body, key)
        response = await call(
            self._message.PreviewMessage, pb.PreviewMessageRequest(message=message), request
        )
        return render.answer(render.preview(response, request.url.path, request.state.request_id))

    async def receive_messages(self, request: Request, body: schemas.ReceiveRequest) -> Response:
        """Store messages from contacts that another system has normalised, each on its own."""
        good, bad = requests.check_items(body.messages, schemas.InboundMessage)
        results: list[render.Json] = [{}] * len(body.messages)
        if good:
            response = await call(
                self._message.ReceiveMessages,
                pb.ReceiveMessagesRequest(messages=[requests.inbound_message(item) for _, item in good]),
                request,
            )
            for (position, _), result in zip(good, response.results, strict=True):
                if result.HasField("error"):
                    error = from_item_error(result.error)
                    bad[position] = problems.from_error(error, item=f"messages[{position}]")
                else:
                    results[position] = {
                        "status": 200 if result.duplicate else 201,
                        "message_id": result.message_id,
                        "conversation_id": result.conversation_id,
                        "duplicate": result.duplicate,
                    }
        _put_problems(results, bad, request)
        return render.answer({"results": results}, 207)

    async def list_messages(
        self,
        request: Request,
        *,
        conversation_id: str = "",
        kind: Annotated[schemas.ChannelWord | None, Query(alias="type")] = None,
        status: schemas.StateWord | None = None,
        direction: schemas.DirectionWord | None = None,
        page_size: PageSize = 0,
        page_token: PageToken = "",
    ) -> Response:
        """Return one page of messages; every filter given must match."""
        response = await call(
            self._message.ListMessages,
            pb.ListMessagesRequest(
                conversation_id=conversation_id,
                channel=CHANNEL.number(kind),
                state=STATE.number(status),
                direction=DIRECTION.number(direction),
                page_size=page_size,
                page_token=page_token,
            ),
            request,
        )
        return render.page("messages", map(render.message, response.messages), response.next_page_token)

    async def get_message(self, request: Request, message_id: str) -> Response:
        """Return one message."""
        response = await call(self._message.GetMessage, pb.GetMessageRequest(message_id=message_id), request)
        return render.answer(render.message(response.message))

    async def list_message_events(
        self, request: Request, message_id: str, page_size: PageSize = 0, page_token: PageToken = ""
    ) -> Response:
        """Return what happened to a message, in order."""
        response = await call(
            self._message.ListMessageEvents,
            pb.ListMessageEventsRequest(message_id=message_id, page_size=page_size, page_token=page_token),
            request,
        )
        return render.page("events", map(render.message_event, response.events), response.next_page_token)

    async def list_dispatch_attempts(self, request: Request, message_id: str) -> Response:
        """Return every try to hand the message to a provider."""
        response = await call(
            self._dispatch.ListDispatchAttempts,
            dispatch_pb.ListDispatchAttemptsRequest(message_id=message_id),
            request,
        )
        return render.answer({"attempts": [render.attempt(attempt) for attempt in response.attempts]})

    async def cancel_message(self, request: Request, message_id: str) -> Response:
        """Cancel a message that no dispatcher has claimed yet; 409 when one has."""
        response = await call(
            self._message.CancelMessage, pb.CancelMessageRequest(message_id=message_id), request
        )
        return render.answer(render.message(response.message))

    async def resolve_message(
        self, request: Request, message_id: str, body: schemas.ResolveRequest
    ) -> Response:
        """Settle a message whose outcome is unknown; 409 in any other state."""
        response = await call(
            self._dispatch.ResolveMessage,
            dispatch_pb.ResolveMessageRequest(
                message_id=message_id,
                state=STATE.number(body.status),
                reason=body.reason,
            ),
            request,
        )
        return render.answer(render.message(response.message))


def _item_key(item: schemas.BatchItem, shared: str, position: int) -> str:
    if item.idempotency_key is not None or not shared:
        return item.idempotency_key or ""
    return f"{shared}#{position}"


def _put_problems(results: list[Any], bad: dict[int, problems.Problem], request: Request) -> None:
    for position, problem in bad.items():
        members = problem.members(request.url.path, request.state.request_id)
        results[position] = {"status": problem.status, "error": members}
