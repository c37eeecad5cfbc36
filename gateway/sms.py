"""The SMS-foundation API, kept as thin routes on the same calls."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response
from google.protobuf.field_mask_pb2 import FieldMask

from gateway import answers, render, requests, schemas
from gateway.identity import caller
from gateway.joining import Sends
from gateway.routing import documented, problem_documented, router
from gateway.rpc import Backends, call
from posthouse.v1 import conversation_pb2, message_pb2
from posthouse.v1 import conversation_service_pb2 as conversation_pb
from posthouse.v1 import message_service_pb2 as pb
from services.kit.errors import (
    InvalidRequestError,
    NotFoundError,
    PosthouseError,
    PreconditionError,
    Violation,
)

# Every page but the first costs the calls of those before it; a cursor does not.
_LAST_PAGE = 100

_PhoneNumber = Annotated[str, Path(description="Number of the contact, in any form.")]
_NO_NUMBER = problem_documented("TWILIO_PHONE_NUMBER is not set, which no repeat mends.")


class SmsRoutes:
    """POST /sms/send, and GET and PATCH /conversations/{phone_number}."""

    def __init__(self, backends: Backends, coalescer: Sends, phone_number: str | None) -> None:
        self._conversation = backends.conversation
        self._coalescer = coalescer
        self._phone_number = phone_number

    def router(self) -> APIRouter:
        """Return the routes."""
        routes = router("", "sms")
        add = routes.add_api_route
        add("/sms/send", self.send_sms, methods=["POST"], summary="Send a text message", status_code=202,
            responses={**documented(answers.Accepted, "Committed.", 202), 409: _NO_NUMBER})  # fmt: skip
        add("/conversations/{phone_number}", self.get_phone_conversation, methods=["GET"],
            summary="Read the messages of a phone number",
            responses=documented(answers.PhoneConversation, "A page of messages, newest first."))  # fmt: skip
        add("/conversations/{phone_number}", self.update_phone_conversation, methods=["PATCH"],
            summary="Say which workflow the newest conversation of a phone number belongs to",
            responses=documented(answers.PhoneWorkflow, "The conversation."))  # fmt: skip
        return routes

    async def send_sms(
        self,
        request: Request,
        body: schemas.SmsRequest,
        idempotency_key: Annotated[str | None, Header(description="Repeats get the first answer.")] = None,
    ) -> Response:
        """Send from the number of the setting TWILIO_PHONE_NUMBER; 409 while it is not set."""
        if not self._phone_number:
            why = "is that of the setting TWILIO_PHONE_NUMBER, which is not set"
            raise PreconditionError(
                why, reason="SENDER_NOT_CONFIGURED", violations=[Violation("sender", why)]
            )
        if "@" in body.recipient:
            raise InvalidRequestError.field("to", "must be a phone number with country code")
        key = requests.idempotency_key(idempotency_key, request.scope["headers"])
        if body.conversation_id:
            await self._check(request, [self._phone_number, body.recipient], body.conversation_id)
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

    async def get_phone_conversation(
        self,
        request: Request,
        phone_number: _PhoneNumber,
        page: Annotated[int, Query(ge=1, le=_LAST_PAGE, description="Page, the newest first.")] = 1,
        limit: Annotated[int, Query(ge=1, le=200, description="Messages of a page.")] = 50,
        cursor: Annotated[str, Query(description="next_cursor of the page before; `page` is ignored.")] = "",
    ) -> Response:
        """Return the messages of a contact's number, in any form, with whichever number of ours.

        Tenant, workflow and language are those of the conversation it was last active in.
        """
        found = await self._conversations(request, phone_number)
        messages, next_cursor = await self._page(request, phone_number, 1 if cursor else page, limit, cursor)
        return render.answer(
            {
                **render.phone_workflow(phone_number, found[0]),
                "messages": messages,
                "page": None if cursor else page,
                "limit": limit,
                "total": sum(conversation.message_count for conversation in found),
                "next_cursor": next_cursor or None,
            }
        )

    async def update_phone_conversation(
        self, request: Request, phone_number: _PhoneNumber, body: schemas.PhoneUpdate
    ) -> Response:
        """Change the fields given of the conversation the number was last active in, and of no other.

        Null clears a field. Posthouse keeps both and interprets neither.
        """
        given = sorted(body.model_fields_set)
        if not given:
            raise InvalidRequestError.field("body", "must have workflow_type or workflow_id")
        newest = (await self._conversations(request, phone_number))[0]
        changed = await call(
            self._conversation.UpdateConversation,
            conversation_pb.UpdateConversationRequest(
                conversation=conversation_pb2.Conversation(
                    id=newest.id,
                    workflow_type=body.workflow_type or "",
                    workflow_id=body.workflow_id or "",
                ),
                update_mask=FieldMask(paths=given),
            ),
            request,
        )
        return render.answer(render.phone_workflow(phone_number, changed.conversation))

    async def _lookup(
        self, request: Request, participants: list[str], names: Mapping[str, str]
    ) -> list[conversation_pb2.Conversation]:
        lookup = conversation_pb.LookupConversationRequest(
            participants=participants, channel_family=conversation_pb2.CHANNEL_FAMILY_SMS
        )
        with _fields_named(names):
            found = await call(self._conversation.LookupConversation, lookup, request)
        return list(found.conversations)

    async def _conversations(
        self, request: Request, phone_number: str
    ) -> list[conversation_pb2.Conversation]:
        """Return the conversations of a number, newest activity first; raises NotFoundError for none."""
        found = await self._lookup(request, [phone_number], {"participants[0]": "phone_number"})
        if not found:
            raise NotFoundError("this number has no conversation", reason="CONVERSATION_NOT_FOUND")
        return found

    async def _check(self, request: Request, participants: list[str], conversation_id: str) -> None:
        """Refuse a conversation that the message would not become part of."""
        found = await self._lookup(request, participants, {"participants[1]": "to"})
        if conversation_id not in {conversation.id for conversation in found}:
            raise InvalidRequestError.field("conversation_id", "is not the conversation of these two numbers")

    async def _page(
        self, request: Request, phone_number: str, page: int, limit: int, token: str
    ) -> tuple[list[render.Json], str]:
        for number in range(1, page + 1):
            asked = conversation_pb.ListConversationMessagesRequest(
                participant=phone_number,
                channel_family=conversation_pb2.CHANNEL_FAMILY_SMS,
                page_size=limit,
                page_token=token,
            )
            with _fields_named({"page_token": "cursor", "participant": "phone_number"}):
                response = await call(self._conversation.ListConversationMessages, asked, request)
            token = response.next_page_token
            if number == page:
                return [render.phone_message(message) for message in response.messages], token
            if not token:
                break
        return [], ""


@contextmanager
def _fields_named(names: Mapping[str, str]) -> Iterator[None]:
    """Have errors name the fields of the routes instead of those of the calls behind them."""
    try:
        yield
    except PosthouseError as error:
        error.violations = tuple(
            Violation(names.get(violation.field, violation.field), violation.description)
            for violation in error.violations
        )
        raise
