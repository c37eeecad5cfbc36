"""Shapes of the answers, for the documentation; a test holds what is rendered against them."""

from typing import Literal

from pydantic import Field

from gateway.schemas import (
    ChannelWord,
    DirectionWord,
    FamilyWord,
    PriorityWord,
    Shape,
    StateWord,
    Time,
)


class FieldError(Shape):
    """One field at fault."""

    field: str = Field(description="As the request names it, with its place.", examples=["to"])
    message: str = Field(description="What is wrong with it.", examples=["is required"])


class Problem(Shape):
    """Why a request was refused (RFC 9457)."""

    type: str = Field(
        description="The reason as a URN; nothing is found under it.",
        examples=["urn:posthouse:problem:invalid-field"],
    )
    title: str = Field(
        description="The reason in words, always the same.", examples=["The request is not valid"]
    )
    status: int = Field(description="HTTP status.", examples=[400])
    detail: str = Field(description="What went wrong this time.", examples=["to: is required"])
    instance: str = Field(description="Path of the request.", examples=["/api/v1/messages/send"])
    reason: str = Field(description="For programs.", examples=["INVALID_FIELD"])
    errors: list[FieldError] = Field(description="Each field at fault; empty when none is.")
    request_id: str = Field(description="As in the X-Request-ID header and in the logs.")
    retry_after: int = Field(
        default=0,
        description="Seconds until it may be tried again, as in Retry-After; only where that is known.",
    )


class Accepted(Shape):
    """A message that is committed."""

    id: str
    conversation_id: str
    status: Literal["pending", "scheduled"]
    type: ChannelWord
    sender: str = Field(alias="from")
    recipient: str = Field(alias="to")
    segments: int | None = Field(description="SMS: segments the body takes.")
    encoding: Literal["gsm7", "ucs2"] | None = Field(description="SMS: alphabet of the body.")
    created_at: Time
    send_at: Time | None


class BatchResult(Shape):
    """The answer to one message of a batch: the message, or why it was refused."""

    status: int = Field(description="HTTP status that the message alone would have got.")
    message: Accepted | None = Field(None, description="The message; absent when it was refused.")
    replayed: bool | None = Field(None, description="True: the stored answer to an earlier request.")
    error: Problem | None = Field(None, description="Why it was refused; absent when it was not.")


class BatchResults(Shape):
    """One result per message, in order."""

    results: list[BatchResult]


class ReceiveResult(Shape):
    """The answer to one inbound message: 201 stored, 200 known already, or why it was refused."""

    status: int = Field(description="HTTP status that the message alone would have got.")
    message_id: str | None = None
    conversation_id: str | None = None
    duplicate: bool | None = None
    error: Problem | None = None


class ReceiveResults(Shape):
    """One result per message, in order."""

    results: list[ReceiveResult]


class MediaItem(Shape):
    """A piece of media."""

    url: str | None
    content_type: str | None
    filename: str | None
    content: str | None = Field(description="Base64.")


class Message(Shape):
    """A message in either direction."""

    id: str
    conversation_id: str
    type: ChannelWord
    direction: DirectionWord
    status: StateWord
    sender: str = Field(alias="from")
    recipient: str = Field(alias="to")
    from_original: str | None
    to_original: str | None
    subject: str | None
    body: str
    html: str | None
    attachments: list[MediaItem]
    metadata: dict[str, str]
    priority: PriorityWord
    segments: int | None
    encoding: Literal["gsm7", "ucs2"] | None
    created_at: Time
    updated_at: Time
    message_at: Time | None
    send_at: Time | None
    expires_at: Time | None
    next_attempt_at: Time | None
    attempt_count: int
    provider: str | None
    provider_message_id: str | None
    error_code: str | None
    error_message: str | None
    transactional: bool
    language: Literal["en", "es", "pt"] | None
    language_confidence: float | None
    content_error: str | None
    reply_to: str | None


class Messages(Shape):
    """One page, newest first."""

    messages: list[Message]
    next_page_token: str | None


class MessageEvent(Shape):
    """One entry of a message's history."""

    message_id: str
    sequence: int
    type: str
    created_at: Time
    provider_at: Time | None
    attempt_number: int | None
    provider: str | None
    error_code: str | None
    detail: str | None


class MessageEvents(Shape):
    """One page, oldest first."""

    events: list[MessageEvent]
    next_page_token: str | None


class ConversationChange(Shape):
    """One change of a conversation's language or tenant."""

    id: str
    conversation_id: str
    type: Literal["language_changed", "tenant_linked"]
    created_at: Time
    old_value: str | None
    new_value: str | None
    confidence: float | None
    source: Literal["message", "tenant", "monitor"]
    message_id: str | None


class ConversationChanges(Shape):
    """One page, newest first."""

    changes: list[ConversationChange]
    next_page_token: str | None


class Attempt(Shape):
    """One try to hand a message to a provider."""

    message_id: str
    number: int
    provider: str
    outcome: Literal["accepted", "retryable", "rejected", "unknown"] | None
    started_at: Time | None
    ended_at: Time | None
    provider_message_id: str | None
    error_code: str | None
    error_message: str | None
    route_reason: str | None


class Attempts(Shape):
    """All attempts of a message, oldest first."""

    attempts: list[Attempt]


class RateLimit(Shape):
    """State of the tightest limit a send would meet."""

    allowed: bool
    limit: int
    remaining: int
    reset_seconds: float


class Preview(Shape):
    """What a send would do."""

    acceptable: bool
    refusals: list[Problem]
    type: ChannelWord | None
    sender: str | None = Field(alias="from")
    recipient: str | None = Field(alias="to")
    conversation_id: str | None
    conversation_exists: bool
    segments: int | None
    encoding: Literal["gsm7", "ucs2"] | None
    characters: int
    ucs2_characters: list[str]
    route: list[str]
    sender_pool: str | None
    sender_kept: bool
    rate_limit: RateLimit | None


class Conversation(Shape):
    """All messages of one channel family between two addresses."""

    id: str
    channel_family: FamilyWord
    participants: list[str]
    created_at: Time
    last_message_at: Time | None
    last_message_id: str | None
    message_count: int
    unread_count: int
    archived_at: Time | None
    workflow_type: str | None
    workflow_id: str | None
    tenant_id: str | None
    language: Literal["en", "es", "pt"] | None
    language_confidence: float | None
    metadata: dict[str, str]


class Conversations(Shape):
    """One page, newest activity first."""

    conversations: list[Conversation]
    next_page_token: str | None


class SearchHit(Shape):
    """One message found."""

    message: Message
    highlight: str = Field(description="Excerpt with the words found between « and ».")


class SearchHits(Shape):
    """One page, newest first."""

    hits: list[SearchHit]
    next_page_token: str | None


class Stats(Shape):
    """Counts."""

    messages_by_direction: dict[str, int]
    messages_by_status: dict[str, int]
    messages_by_type: dict[str, int]
    active_conversation_count: int
    delivery_rate: float
    mean_response_seconds: float = Field(description="From our message to the contact's next one.")
    median_response_seconds: float
    mean_answer_seconds: float = Field(description="From a contact's message to our next one.")
    median_answer_seconds: float


class PhoneMessage(Shape):
    """A text message as the foundation names its parts."""

    id: str
    conversation_id: str
    direction: DirectionWord
    content: str
    twilio_sid: str | None = Field(description="The provider's id, whichever it is.")
    delivery_status: StateWord
    created_at: Time
    sender: str = Field(alias="from")
    recipient: str = Field(alias="to")
    media_urls: list[str] = Field(description="Addresses of its media, in the order given.")
    language: Literal["en", "es", "pt"] | None


class PhoneWorkflow(Shape):
    """The newest conversation of a phone number, and what it belongs to."""

    phone_number: str = Field(description="The contact's number as it was asked for.")
    conversation_id: str = Field(description="Id of the conversation, a UUID.")
    tenant_id: str | None
    workflow_type: str | None
    workflow_id: str | None
    language: Literal["en", "es", "pt"] | None
    last_message_at: Time | None


class PhoneConversation(PhoneWorkflow):
    """The newest conversation of a phone number, and a page of the messages of all, newest first."""

    messages: list[PhoneMessage] = Field(description="Messages, newest first.")
    page: int | None = Field(description="Null when a cursor was given.")
    limit: int = Field(description="Most messages of a page.")
    total: int = Field(description="Messages of all conversations.")
    next_cursor: str | None = Field(description="Cursor of the next page; null on the last.")


class Event(Shape):
    """One thing that happened, as streamed."""

    id: str
    type: str
    created_at: Time
    message_id: str | None
    conversation_id: str | None
    channel: ChannelWord | None
    direction: DirectionWord | None
    status: StateWord | None
    sender: str | None = Field(alias="from")
    recipient: str | None = Field(alias="to")
    provider: str | None
    error_code: str | None
    attempt_number: int | None
