"""What the contract suite must know of a provider: how to play its carrier, and what its wire looks like.

A provider joins in its own test file: an adapter, and a class that inherits the suite's cases.

    class TestPigeonContract(ProviderContract):
        @pytest.fixture
        async def adapter(self) -> AsyncIterator[ProviderAdapter]:
            async with PigeonAdapter() as adapter:
                yield adapter
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from services.kit.ids import new_id
from services.providers.base import (
    OutboundMessage,
    Outcome,
    Provider,
    WebhookContent,
    WebhookRequest,
)


class Behaviour(StrEnum):
    """What a fake carrier does with the requests that follow."""

    ACCEPT = "accept"
    RATE_LIMIT = "rate_limit"  # refused for now, saying `retry_after` where the wire can
    SERVER_ERROR = "server_error"  # 5xx after the whole request was read
    REJECT = "reject"  # refused for good: the message's fault
    HANG = "hang"  # reads the request and says nothing until the provider's own timeout
    RESET = "reset"  # reads the request and resets the connection
    REFUSE_CONNECTION = "refuse_connection"  # nobody listens: the request never went out
    GARBAGE = "garbage"  # a success that cannot be understood
    SLOW_BODY = "slow_body"  # begins its answer and never ends it


@dataclass(frozen=True, slots=True)
class WebhookSample:
    """A request as the provider signs it, and exactly what it says."""

    request: WebhookRequest
    content: WebhookContent


class WebhookSamples(ABC):
    """The webhooks of a provider that has any."""

    # At least one of each kind of news, none twice. Their event keys must all differ.
    genuine: Sequence[WebhookSample]
    # Signed requests that cannot be understood, by the text that the error must contain (the field's name).
    malformed: Mapping[str, WebhookRequest]
    # In lower case; without any of them nothing is genuine.
    signature_headers: Sequence[str]

    @abstractmethod
    def redelivered(self, request: WebhookRequest) -> WebhookRequest:
        """Return the same news as the provider sends it once more: with a later time, if it has one."""

    @abstractmethod
    def signed_by_a_stranger(self, request: WebhookRequest) -> WebhookRequest:
        """Return the request as it would be with another secret."""


class ProviderAdapter(ABC):
    """A started provider and its fake carrier on loopback.

    HANG and SLOW_BODY end in `patience.keep_silent`, which ends the provider's own timeout at once. Give it
    one that is long enough for any machine and shorter than `patience.SILENCE`: `patience.TIMEOUT`.
    """

    provider: Provider
    channel: str
    # What must appear in no repr, no log line and no error text.
    secrets: Sequence[str]
    # Seconds that RATE_LIMIT asks to wait, None where the wire cannot say it.
    retry_after: float | None
    # None where the provider has no webhooks: then nothing may ever be genuine.
    webhooks: WebhookSamples | None = None
    # Outcomes that differ from the suite's table because the wire does, each with a comment that says why;
    # None: this behaviour cannot happen.
    differing: ClassVar[Mapping[Behaviour, type[Outcome] | None]] = {}
    # Whether `lookup` answers without asking the carrier over the wire that `play` disturbs.
    asks_memory: ClassVar[bool] = False
    # Behaviours whose requests `requests` does not show.
    unseen: ClassVar[frozenset[Behaviour]] = frozenset({Behaviour.REFUSE_CONNECTION})

    @abstractmethod
    def message(self, number: int) -> OutboundMessage:
        """Return a message with a new id; what differs between numbers must show on the wire."""

    @abstractmethod
    async def play(self, behaviour: Behaviour) -> None:
        """Do this with all requests from now on."""

    @abstractmethod
    def requests(self) -> Sequence[object]:
        """Return what has arrived at the fake, completely and in a form that compares: bytes or fields."""

    @abstractmethod
    def expected_request(self, message: OutboundMessage) -> object:
        """Return what must arrive for a message, written out by hand, in the form of `requests`."""

    @abstractmethod
    def accepted_id(self, message: OutboundMessage) -> str:
        """Return the provider id under which the fake accepted a message."""


def text_message(number: int, *, channel: str, sender: str, recipient: str) -> OutboundMessage:
    """Return a message with a new id whose body carries what wires get wrong: accents, emoji, & and +."""
    return OutboundMessage(
        id=new_id(),
        attempt=1,
        channel=channel,
        sender=sender,
        recipient=recipient,
        body=f"Number {number}: ¿qué tal? 🐎 100% & more + =",
    )
