"""The SMS-foundation API, kept as thin routes on the same calls."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response

from gateway import answers, render, requests, schemas
from gateway.coalesce import Coalescer
from gateway.identity import caller
from gateway.routing import documented, router
from gateway.rpc import Backends, call
from posthouse.v1 import conversation_pb2, message_pb2
from posthouse.v1 import conversation_service_pb2 as conversation_pb
from posthouse.v1 import message_service_pb2 as pb
from services.kit.errors import NotFoundError, UnavailableError

# Every page but the first costs the calls of those before it.
_LAST_PAGE = 100


class SmsRoutes:
    """POST /sms/send and GET /conversations/{phone_number}."""

    def __init__(self, backends: Backends, coalescer: Coalescer, phone_number: str | None) -> None:
        self._conversation = backends.conversation
        self._coalescer = coalescer
        self._phone_number = phone_number

    def router(self) -> APIRouter:
        """Return the routes."""
        routes = router("", "sms")
        add = routes.add_api_route
        add("/sms/send", self.send, methods=["POST"], summary="Send a text message", status_code=202,
            responses=documented(answers.Accepted, "Committed.", 202))  # fmt: skip
        add("/conversations/{phone_number}", self.show, methods=["GET"],
            summary="Read the newest conversation of a phone number",
            responses=documented(answers.PhoneConversation, "A page of messages, newest first."))  # fmt: skip
        return routes

    async def send(
        self,
        request: Request,
        body: schemas.SmsRequest,
        idempotency_key: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Send from the number of the setting TWILIO_PHONE_NUMBER; 503 while it is not set."""
        if not self._phone_number:
            raise UnavailableError("TWILIO_PHONE_NUMBER is not set: there is no number to send from")
        key = requests.idempotency_key(idempotency_key)
        message = await self._coalescer.send(
            pb.SendMessageRequest(
                sender=self._phone_number,
                recipient=body.recipient,
                channel=message_pb2.CHANNEL_SMS,
                body=body.body,
                request_id=key,
            ),
            size=len(body.body),
            caller=caller(request.scope),
            request_id=request.state.request_id,
        )
        headers = {"idempotent-replayed": "true"} if message.replayed else None
        return render.answer(render.accepted(message), 202, headers)

    async def show(
        self,
        request: Request,
        phone_number: str,
        page: Annotated[int, Query(ge=1, le=_LAST_PAGE)] = 1,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> Response:
        """Return the conversation a phone number was last active in, with one page of its messages."""
        found = await call(
            self._conversation.LookupConversation,
            conversation_pb.LookupConversationRequest(
                participants=[phone_number], channel_family=conversation_pb2.CHANNEL_FAMILY_SMS
            ),
            request,
        )
        if not found.conversations:
            raise NotFoundError("this number has no conversation", reason="CONVERSATION_NOT_FOUND")
        newest = found.conversations[0]
        return render.answer(
            {
                "phone_number": phone_number,
                "conversation": render.conversation(newest),
                "messages": await self._page(request, newest.id, page, limit),
                "page": page,
                "limit": limit,
                "total": newest.message_count,
            }
        )

    async def _page(self, request: Request, conversation_id: str, page: int, limit: int) -> list[render.Json]:
        token = ""
        for number in range(1, page + 1):
            response = await call(
                self._conversation.ListConversationMessages,
                conversation_pb.ListConversationMessagesRequest(
                    conversation_id=conversation_id, page_size=limit, page_token=token
                ),
                request,
            )
            if number == page:
                return [render.message(message) for message in response.messages]
            token = response.next_page_token
            if not token:
                break
        return []
