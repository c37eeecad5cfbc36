"""Translates the RPCs of MessageService to the use cases behind them."""

import hashlib
from typing import Any

import grpc

from posthouse.v1 import message_service_pb2 as pb
from posthouse.v1 import message_service_pb2_grpc as pb_grpc
from services.kit import enum_names
from services.kit.callers import current_caller
from services.kit.errors import InvalidRequestError, PosthouseError
from services.kit.fields import read_word
from services.kit.ids import parse_id
from services.kit.paging import encode_token, page_size, read_id, read_number
from services.kit.rate_limit_clients import Client, Clients
from services.kit.status import to_item_error
from services.ledger import reads
from services.ledger.database import Database
from services.message.cancelling import Canceller
from services.message.opt_outs import OptOutKeeper
from services.message.preview import Previewer
from services.message.receiving import Receiver
from services.message.sending import Sender
from services.message.webhooks import Arrived, Ingested, WebhookIngester
from services.providers.base import WebhookRequest

_MAX_BATCH = 1000
_DEFAULT_EVENTS, _MAX_EVENTS = 100, 500

_Context = grpc.aio.ServicerContext[Any, Any]


class MessageServicer(pb_grpc.MessageServiceServicer):
    """MessageService over its use cases."""

    def __init__(
        self,
        database: Database,
        sender: Sender,
        receiver: Receiver,
        ingester: WebhookIngester,
        canceller: Canceller,
        previewer: Previewer,
        opt_outs: OptOutKeeper,
        clients: Clients,
    ) -> None:
        self._database = database
        self._sender = sender
        self._receiver = receiver
        self._ingester = ingester
        self._canceller = canceller
        self._previewer = previewer
        self._opt_outs = opt_outs
        self._clients = clients

    async def SendMessage(self, request: pb.SendMessageRequest, context: _Context) -> pb.SendMessageResponse:
        """Accept one message."""
        (answer,) = await self._sender.send([request], caller=_caller(context), client=self._client(context))
        if isinstance(answer, PosthouseError):
            raise answer
        return pb.SendMessageResponse(message=answer)

    async def SendMessages(
        self, request: pb.SendMessagesRequest, context: _Context
    ) -> pb.SendMessagesResponse:
        """Accept a batch, each message on its own."""
        _check_batch("requests", len(request.requests))
        answers = await self._sender.send(
            request.requests, caller=_caller(context), client=self._client(context)
        )
        return pb.SendMessagesResponse(
            results=[
                pb.SendResult(error=to_item_error(answer))
                if isinstance(answer, PosthouseError)
                else pb.SendResult(message=answer)
                for answer in answers
            ]
        )

    async def GetMessage(self, request: pb.GetMessageRequest, _context: _Context) -> pb.GetMessageResponse:
        """Return one message."""
        message_id = parse_id("message_id", request.message_id)
        async with self._database.read() as connection:
            message = await reads.get_message(connection, message_id)
        if message is None:
            raise reads.message_not_found(message_id)
        return pb.GetMessageResponse(message=message)

    async def ListMessages(
        self, request: pb.ListMessagesRequest, _context: _Context
    ) -> pb.ListMessagesResponse:
        """List messages, newest first."""
        size = page_size(request.page_size)
        conversation_id = request.conversation_id and parse_id("conversation_id", request.conversation_id)
        filters = {
            "conversation_id": conversation_id,
            "channel": read_word("channel", enum_names.CHANNEL, request.channel),
            "state": read_word("state", enum_names.STATE, request.state),
            "direction": read_word("direction", enum_names.DIRECTION, request.direction),
        }
        filter_key = ["messages", *filters.values()]
        before = read_id(request.page_token, filter_key)
        async with self._database.read() as connection:
            messages = await reads.list_messages(connection, **filters, before=before, limit=size + 1)
        more = len(messages) > size
        return pb.ListMessagesResponse(
            messages=messages[:size],
            next_page_token=encode_token(filter_key, [messages[size - 1].id]) if more else "",
        )

    async def ListMessageEvents(
        self, request: pb.ListMessageEventsRequest, _context: _Context
    ) -> pb.ListMessageEventsResponse:
        """List the history of one message."""
        message_id = parse_id("message_id", request.message_id)
        size = page_size(request.page_size, default=_DEFAULT_EVENTS, largest=_MAX_EVENTS)
        filter_key = ["events", message_id]
        after = read_number(request.page_token, filter_key)
        async with self._database.read() as connection:
            events = await reads.list_message_events(connection, message_id, after, size + 1)
        more = len(events) > size
        return pb.ListMessageEventsResponse(
            events=events[:size],
            next_page_token=encode_token(filter_key, [events[size - 1].sequence]) if more else "",
        )

    async def CancelMessage(
        self, request: pb.CancelMessageRequest, _context: _Context
    ) -> pb.CancelMessageResponse:
        """Cancel a waiting message."""
        message = await self._canceller.cancel(parse_id("message_id", request.message_id))
        return pb.CancelMessageResponse(message=message)

    async def PreviewMessage(
        self, request: pb.PreviewMessageRequest, context: _Context
    ) -> pb.PreviewMessageResponse:
        """Tell what a send would do."""
        client = self._client(context)
        return await self._previewer.preview(
            request.message, caller=_caller(context), client=client, ip=client.address
        )

    async def ListOptOuts(self, request: pb.ListOptOutsRequest, _context: _Context) -> pb.ListOptOutsResponse:
        """List the opt-outs that hold."""
        return await self._opt_outs.page(request)

    async def AddOptOut(self, request: pb.AddOptOutRequest, context: _Context) -> pb.AddOptOutResponse:
        """Record an opt-out."""
        return await self._opt_outs.add(request, caller=_caller(context))

    async def RemoveOptOut(
        self, request: pb.RemoveOptOutRequest, context: _Context
    ) -> pb.RemoveOptOutResponse:
        """Lift an opt-out."""
        return await self._opt_outs.remove(request, caller=_caller(context))

    async def ListConsentEvents(
        self, request: pb.ListConsentEventsRequest, _context: _Context
    ) -> pb.ListConsentEventsResponse:
        """List the history of consent."""
        return await self._opt_outs.history(request)

    async def ReceiveMessages(
        self, request: pb.ReceiveMessagesRequest, _context: _Context
    ) -> pb.ReceiveMessagesResponse:
        """Store inbound messages."""
        _check_batch("messages", len(request.messages))
        return pb.ReceiveMessagesResponse(results=await self._receiver.receive(request.messages))

    async def IngestWebhook(
        self, request: pb.IngestWebhookRequest, _context: _Context
    ) -> pb.IngestWebhookResponse:
        """Take a provider's request."""
        (answer,) = await self._ingester.ingest([_arrived(request)])
        if isinstance(answer, PosthouseError):
            raise answer
        return _webhook_answer(answer)

    async def IngestWebhooks(
        self, request: pb.IngestWebhooksRequest, _context: _Context
    ) -> pb.IngestWebhooksResponse:
        """Take providers' requests, each on its own."""
        _check_batch("requests", len(request.requests))
        answers = await self._ingester.ingest([_arrived(each) for each in request.requests])
        return pb.IngestWebhooksResponse(
            results=[
                pb.WebhookResult(error=to_item_error(answer))
                if isinstance(answer, PosthouseError)
                else pb.WebhookResult(response=_webhook_answer(answer))
                for answer in answers
            ]
        )

    def _client(self, context: _Context) -> Client:
        metadata: Any = context.invocation_metadata()
        return self._clients.of_call(metadata, context.peer())


def _arrived(request: pb.IngestWebhookRequest) -> Arrived:
    webhook = WebhookRequest(
        method=request.method,
        url=request.url,
        headers={header.name.lower(): header.value for header in request.headers},
        body=request.body,
    )
    return Arrived(request.provider, webhook, request.remote_address.replace("\0", ""))


def _webhook_answer(done: Ingested) -> pb.IngestWebhookResponse:
    return pb.IngestWebhookResponse(
        http_status=200,
        content_type=done.answer_type,
        body=done.answer_body,
        applied_count=done.applied_count,
        duplicate_count=done.duplicate_count,
        webhook_log_id=done.webhook_log_id,
        refused_count=done.refused_count,
    )


def _check_batch(field: str, size: int) -> None:
    if not 1 <= size <= _MAX_BATCH:
        raise InvalidRequestError.field(field, f"must have 1 to {_MAX_BATCH} entries, not {size}")


def _caller(context: _Context) -> str:
    """Return what idempotency keys are scoped to: the authenticated caller.

    Where calls are not authenticated it is a digest of the credential, "" without one.
    """
    caller = current_caller()
    if caller is not None:
        return caller.id
    for key, value in context.invocation_metadata() or ():
        if key in ("authorization", "x-api-key"):
            text = value.encode() if isinstance(value, str) else value
            return hashlib.blake2s(text, digest_size=12).hexdigest()
    return ""
