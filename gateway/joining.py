"""The batch calls that concurrent requests share: what is asked, and each one's answer or error."""

from collections.abc import Awaitable, Callable, Sequence

from gateway.coalesce import Coalescer, Limits
from gateway.identity import Metadata
from posthouse.v1 import message_service_pb2 as pb
from services.kit.errors import PosthouseError
from services.kit.status import from_item_error

Sends = Coalescer[pb.SendMessageRequest, pb.AcceptedMessage]
Webhooks = Coalescer[pb.IngestWebhookRequest, pb.IngestWebhookResponse]


def join_sends(
    call: Callable[[pb.SendMessagesRequest, Metadata], Awaitable[pb.SendMessagesResponse]],
    limits: Limits | None = None,
) -> Sends:
    """Return what joins sends into calls of SendMessages."""

    async def ask(
        requests: Sequence[pb.SendMessageRequest], metadata: Metadata
    ) -> list[pb.AcceptedMessage | PosthouseError]:
        response = await call(pb.SendMessagesRequest(requests=requests), metadata)
        return [
            from_item_error(result.error) if result.HasField("error") else result.message
            for result in response.results
        ]

    return Coalescer("send batch", ask, limits)


def join_webhooks(
    call: Callable[[pb.IngestWebhooksRequest, Metadata], Awaitable[pb.IngestWebhooksResponse]],
    limits: Limits | None = None,
) -> Webhooks:
    """Return what joins providers' requests into calls of IngestWebhooks."""

    async def ask(
        requests: Sequence[pb.IngestWebhookRequest], metadata: Metadata
    ) -> list[pb.IngestWebhookResponse | PosthouseError]:
        response = await call(pb.IngestWebhooksRequest(requests=requests), metadata)
        return [
            from_item_error(result.error) if result.HasField("error") else result.response
            for result in response.results
        ]

    return Coalescer("webhook batch", ask, limits)
