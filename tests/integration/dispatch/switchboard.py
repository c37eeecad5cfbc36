"""A provider of voice calls as another package would bring it: Posthouse knows nothing of it."""

from collections.abc import Sequence

import orjson

from services.kit.config import Settings
from services.providers.base import (
    Accepted,
    Inbound,
    OutboundMessage,
    Outcome,
    Provider,
    Receipt,
    WebhookContent,
    WebhookRequest,
)


class Switchboard(Provider):
    """Reads messages out to whoever picks up."""

    name = "switchboard"
    channels = frozenset({"voice"})
    calls: list[OutboundMessage]

    def __init__(self) -> None:
        self.calls = []

    async def send(self, messages: Sequence[OutboundMessage]) -> list[Outcome]:
        self.calls += messages
        return [Accepted(f"CA-{message.id}") for message in messages]

    def verify(self, request: WebhookRequest) -> bool:
        return request.headers.get("x-switchboard") == "it is me"

    def parse(self, request: WebhookRequest) -> WebhookContent:
        said = orjson.loads(request.body)
        if said["what"] == "answered":
            return WebhookContent(
                [Receipt(event_key=said["id"], state="delivered", message_id=said["message"])]
            )
        call = Inbound(
            event_key=said["id"],
            channel="voice",
            sender=said["from"],
            recipient=said["to"],
            body=said["words"],
        )
        return WebhookContent(inbound=[call], answer_type="text/xml", answer_body=b"<Hangup/>")


# What the processes of a test were given, in order.
built: list[Switchboard] = []


def make(_settings: Settings) -> Provider:
    built.append(Switchboard())
    return built[-1]
