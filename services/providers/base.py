"""The interface every provider implements. Results are values: a provider does not raise for them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from services.providers.shared_semaphore import SharedSemaphore


@dataclass(slots=True)
class OutboundMessage:
    """A message as a provider gets it. Addresses are canonical; absent texts are empty."""

    id: str
    attempt: int
    channel: str
    sender: str
    recipient: str
    body: str
    subject: str = ""
    html: str = ""
    # Each has content_type, filename, and either url or content (base64).
    attachments: Sequence[Mapping[str, Any]] = ()
    # E-mail that answers one: its Message-ID, and those of the thread from the eldest on, in angle brackets.
    in_reply_to: str = ""
    references: Sequence[str] = ()
    # E-mail: the address that answers are to go to; empty: to the sender.
    reply_to: str = ""
    # When this attempt began; None when it is not known.
    attempt_time: datetime | None = None


@dataclass(slots=True)
class Accepted:
    """The provider took the message. Its id may be empty where it gives none."""

    provider_message_id: str


@dataclass(frozen=True, slots=True)
class Retryable:
    """The provider has surely not taken it, and may later. `retry_after` is in seconds, None: not said."""

    error_code: str
    error_message: str = ""
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """The provider refused it, and will again.

    `provider_fault`: not for the message's sake, but for our account or its configuration; another provider
    may well take it.
    """

    error_code: str
    error_message: str = ""
    provider_fault: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody can tell whether the provider took it: the request went out and no answer came back."""

    error_code: str
    error_message: str = ""


@dataclass(frozen=True, slots=True)
class NotBegun:
    """Nothing was tried: all that we may have under way at once was taken for too long.

    It is no fault of the provider.
    """

    reason: str


Attempted = Accepted | Retryable | Rejected | Unknown
Outcome = Attempted | NotBegun


@dataclass(frozen=True, slots=True)
class Found:
    """The provider has the message."""

    provider_message_id: str


@dataclass(frozen=True, slots=True)
class Absent:
    """The provider has proved that it does not have the message."""


@dataclass(frozen=True, slots=True)
class CannotTell:
    """The provider cannot be asked, or did not answer."""


LookupResult = Found | Absent | CannotTell


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """A provider's HTTP request as it arrived. Header names are in lower case."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    # What a provider has read of it already: to check and to understand it take the same reading.
    readings: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)


@dataclass(slots=True)
class Receipt:
    """News of a message we sent.

    `message_id` is ours, from what we gave the provider; empty when only `provider_message_id` is known.
    `state` is one of ledger.states.REPORTABLE, or empty for news that moves nothing (opened, clicked);
    "failed" is taken as "undelivered". `attempt` is the one reported on, as it was given to the provider;
    without it, the news counts for the attempt that has `provider_message_id`, or else for the latest.
    """

    event_key: str
    state: str
    message_id: str = ""
    provider_message_id: str = ""
    attempt: int = 0
    provider_time: datetime | None = None
    error_code: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Inbound:
    """A message from a contact, with addresses as the provider wrote them."""

    event_key: str
    channel: str
    sender: str
    recipient: str
    body: str = ""
    subject: str = ""
    html: str = ""
    attachments: Sequence[Mapping[str, Any]] = ()
    provider_message_id: str = ""
    provider_time: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WebhookContent:
    """What a webhook request says, and what the provider wants to be answered."""

    receipts: Sequence[Receipt] = ()
    inbound: Sequence[Inbound] = ()
    # Parts of the request that were passed over: of kinds not known, or not what they should be.
    refused_count: int = 0
    answer_type: str = "application/json"
    answer_body: bytes = b"{}"


class MalformedWebhookError(Exception):
    """The request is signed, but its body cannot be understood. The text says why, without its content."""


class UnbuildableError(Exception):
    """No request can be made of a message. Nothing of the call that raises it has been sent."""

    def __init__(self, message_id: str, reason: str) -> None:
        super().__init__(reason)
        self.message_id = message_id


class Provider(ABC):
    """One way out, and the way its news come back in."""

    name: str
    channels: frozenset[str]
    # Most messages of one call of `send`, and seconds one may take before its outcome counts as unknown.
    batch_size: int = 50
    send_timeout: float = 30.0
    # Seconds after an attempt was cut short until `lookup` can be believed to see it.
    inquiry_delay: float = 30.0
    # What a webhook that cannot be understood is answered with: as any other, or it would come again.
    answer_type: str = "application/json"
    answer_body: bytes = b"{}"
    # The requests it may have under way, where the dispatchers share a limit of the provider's.
    semaphore: SharedSemaphore | None = None

    @abstractmethod
    async def send(self, messages: Sequence[OutboundMessage]) -> list[Outcome]:
        """Hand messages to the provider; outcomes come in the order of the messages.

        Those between the same two addresses reach it one after the other: see in_order. Never raises for what
        the provider does; an exception counts as Unknown for the whole call, but UnbuildableError.
        """

    async def lookup(self, messages: Sequence[OutboundMessage]) -> list[LookupResult]:
        """Ask whether the provider has messages whose sending was cut short."""
        return [CannotTell()] * len(messages)

    @abstractmethod
    def verify(self, request: WebhookRequest) -> bool:
        """Tell whether the provider made this request: its signature is right and fresh."""

    @abstractmethod
    def parse(self, request: WebhookRequest) -> WebhookContent:
        """Return what a verified request says, or raise MalformedWebhookError."""

    @property
    def batch_share(self) -> int:
        """Return the most messages of a call of `send` now: below `batch_size` where limits are shared."""
        return self.batch_size if self.semaphore is None else self.semaphore.part_of(self.batch_size)

    def shared_by(self, dispatchers: Callable[[], int]) -> None:
        """Keep limits of the provider's to a share of them from now on.

        `dispatchers` returns how many use the provider together, which changes while they work.
        """
        if self.semaphore is not None:
            self.semaphore.dispatchers = dispatchers

    async def start(self) -> None:  # noqa: B027 - most providers need none
        """Open what sending needs; called once by a dispatcher, never for webhooks alone."""

    async def close(self) -> None:  # noqa: B027 - most providers need none
        """Finish and release it."""
