"""Shapes of the requests: types and words only; what a message may be is MessageService's to say."""

import base64
import binascii
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SkipValidation, WithJsonSchema

from services.kit.fields import METADATA_KEY_LENGTH, METADATA_PAIRS, METADATA_VALUE_LENGTH

ChannelWord = Literal["sms", "mms", "email", "voice"]
StateWord = Literal[
    "scheduled",
    "pending",
    "sending",
    "sent",
    "delivered",
    "read",
    "failed",
    "undelivered",
    "cancelled",
    "unknown",
    "received",
]
DirectionWord = Literal["inbound", "outbound"]
PriorityWord = Literal["high", "normal", "low"]
FamilyWord = Literal["sms", "email", "voice"]
ResolvedWord = Literal["sent", "pending", "failed"]

_LABELS = (
    f"at most {METADATA_PAIRS} pairs, keys of 1 to {METADATA_KEY_LENGTH} characters, "
    f"values to {METADATA_VALUE_LENGTH}"
)

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _parse_time(value: Any) -> Any:
    """Return the UTC time of an RFC 3339 text."""
    if isinstance(value, datetime) or value is None:
        return value
    if not isinstance(value, str) or not _RFC3339.fullmatch(value):
        raise ValueError("must be an RFC 3339 time with an offset, such as 2030-01-31T09:30:00Z")
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("is not a time that exists") from None


def _parse_base64(value: Any) -> Any:
    """Return the bytes of a base64 text (RFC 4648, with padding)."""
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        raise ValueError("is not valid base64") from None


Time = Annotated[
    datetime, BeforeValidator(_parse_time), WithJsonSchema({"type": "string", "format": "date-time"})
]
Base64 = Annotated[
    bytes,
    BeforeValidator(_parse_base64),
    WithJsonSchema({"type": "string", "contentEncoding": "base64"}),
]
Flag = Annotated[bool, Field(strict=True)]
Rate = Annotated[float, Field(ge=0, le=1, strict=True)]
Milliseconds = Annotated[int, Field(ge=0, le=2**31 - 1, strict=True)]
PageSize = Annotated[int, Field(ge=0, le=2**31 - 1, description="Items of a page; 0: the default.")]
PageToken = Annotated[str, Field(description="next_page_token of the answer before.")]


class Shape(BaseModel):
    """What every shape of the API has in common: a field nobody knows is an error."""

    model_config = ConfigDict(extra="forbid", serialize_by_alias=True)


class Attachment(Shape):
    """A piece of media, by address or (e-mail only) by content."""

    url: str | None = Field(None, description="http or https address of the media.")
    content_type: str | None = Field(None, description="Media type, such as image/jpeg.")
    filename: str | None = Field(None, description="File name the recipient sees; e-mail only.")
    content: Base64 | None = Field(None, description="The bytes themselves in base64; e-mail only.")


class SendRequest(Shape):
    """A message to send."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"from": "+15551234567", "to": "+15559876543", "body": "Hello from Posthouse"}]
        }
    )

    sender: str | None = Field(
        None,
        alias="from",
        description="Phone number or e-mail address to send from. Empty: chosen from the pool.",
    )
    sender_pool: str | None = Field(
        None, description="Pool to choose a sender from. Empty: the pool named default, if there is one."
    )
    recipient: str = Field(alias="to", description="Phone number or e-mail address to send to.")
    type: ChannelWord | None = Field(None, description="Channel; detected from `to` and the attachments.")
    body: str | None = Field(None, description="Plain text. SMS and MMS: at most 1,600 characters.")
    subject: str | None = Field(None, description="Subject; e-mail only.")
    html: str | None = Field(None, description="HTML text; e-mail only.")
    attachments: list[Attachment] | None = Field(None, description="Media: at most 10.")
    send_at: Time | None = Field(None, description="When to send, at most 35 days ahead. Empty: at once.")
    expires_at: Time | None = Field(None, description="Not to be sent after this time.")
    metadata: dict[str, str] | None = Field(
        None, description=f"Labels of your own, returned as given: {_LABELS}."
    )
    priority: PriorityWord | None = Field(None, description="Lane to wait in.")
    fail_fast: Flag = Field(False, description="Refuse rather than queue while every provider is failing.")
    transactional: Flag = Field(False, description="E-mail the recipient must get even after opting out.")
    reply_to: str | None = Field(
        None, description="Address that answers go to; e-mail only. Empty: as set for the sender."
    )


class BatchItem(SendRequest):
    """A message of a batch."""

    idempotency_key: str | None = Field(
        None,
        description="Key of this message. Empty: the header's Idempotency-Key, if any, with #position.",
    )


class BatchRequest(Shape):
    """Messages to send, each on its own: one refusal never fails its neighbours."""

    # Each item is checked by itself, so that its neighbours pass.
    messages: list[SkipValidation[BatchItem]] = Field(min_length=1, max_length=1000)


class InboundMessage(Shape):
    """A message from a contact that another system has already normalised."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "source": "legacy-inbox",
                    "event_id": "42",
                    "from": "+15559876543",
                    "to": "+15551234567",
                    "body": "Hi there",
                }
            ]
        }
    )

    source: str = Field(
        description="System it comes from, no provider; with event_id the key that makes it unique."
    )
    event_id: str = Field(description="The source's id of the message.")
    sender: str = Field(alias="from", description="Address of the contact.")
    recipient: str = Field(alias="to", description="Our address.")
    type: ChannelWord | None = Field(None, description="Channel; detected as in a send.")
    body: str | None = None
    subject: str | None = None
    html: str | None = None
    attachments: list[Attachment] | None = None
    message_at: Time | None = Field(None, description="When the contact sent it. Empty: now.")
    metadata: dict[str, str] | None = None


class ReceiveRequest(Shape):
    """Inbound messages, each on its own."""

    messages: list[SkipValidation[InboundMessage]] = Field(min_length=1, max_length=1000)


class SearchRequest(Shape):
    """A question in words."""

    query: str = Field(description='Words, "a phrase", pre* for a prefix, -not.', examples=["hello"])
    conversation_id: str | None = Field(None, description="Only in this conversation.")
    participant: str | None = Field(None, description="Only with this phone number or address, in any form.")
    tenant_id: str | None = Field(None, description="Only of this tenant.")
    page_size: Annotated[int, Field(ge=0, le=2**31 - 1, strict=True)] = 0
    page_token: str | None = None


class ReadRequest(Shape):
    """How far a conversation has been read."""

    message_id: str | None = Field(None, description="Read up to and with this message. Empty: all of it.")


class ConversationUpdate(Shape):
    """What to change; fields that are not given stay as they are."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"workflow_type": "collections", "workflow_id": "case-17"}]}
    )

    workflow_type: str | None = Field(None, description="Kind of business process; null clears it.")
    workflow_id: str | None = Field(None, description="Id within that kind; null clears it.")
    metadata: dict[str, str] | None = Field(
        None, description=f"Replaces all labels: {_LABELS}; null clears them."
    )


class PhoneUpdate(Shape):
    """Which workflow a conversation belongs to; a field that is not given stays as it is."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"workflow_type": "collections", "workflow_id": "case-17"}]}
    )

    workflow_type: str | None = Field(None, description="Kind of business process; null clears it.")
    workflow_id: str | None = Field(None, description="Id within that kind; null clears it.")


class DeadLetterFilter(Shape):
    """Dead letters that have not been replayed; all that is given must match, and something must be given."""

    type: ChannelWord | None = Field(None, description="Only of this channel.")
    reason: str | None = Field(None, description="Only for this reason.")
    provider: str | None = Field(None, description="Only those whose last attempt was with this provider.")
    error_code: str | None = Field(None, description="Only with this error code.")
    since: Time | None = Field(None, description="Only those given up at or after this time.")
    until: Time | None = Field(
        None, description="Only those given up before this time; given by who repeats the call."
    )


class ReplayRequest(Shape):
    """Dead letters to put back into the queue, one by one or the eldest 1,000 of a filter."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"filter": {"provider": "twilio", "error_code": "30001", "until": "2026-11-22T03:00:00Z"}}
            ]
        }
    )

    message_ids: list[str] | None = Field(None, min_length=1, max_length=1000)
    filter: DeadLetterFilter | None = None


class ResolveRequest(Shape):
    """How a message of unknown outcome is settled."""

    status: ResolvedWord = Field(
        description="sent: the provider has it; pending: send again; failed: give up."
    )
    reason: str = Field(description="Who settled it and why; kept in the history.")


class SimulatorProfile(Shape):
    """How the simulator behaves for a channel. Rates are probabilities from 0 to 1."""

    type: ChannelWord | None = Field(None, description="Channel; null: all.")
    rate_limited_rate: Rate = 0.0
    server_error_rate: Rate = 0.0
    timeout_rate: Rate = 0.0
    lost_rate: Rate = 0.0
    rejected_rate: Rate = 0.0
    latency_ms: Milliseconds = 0
    callback_delay_ms: Milliseconds = 0
    callback_duplicate_rate: Rate = 0.0
    callback_loss_rate: Rate = 0.0
    callback_reorder_rate: Rate = 0.0
    undelivered_rate: Rate = 0.0
    reply_rate: Rate = 0.0
    reply_delay_ms: Milliseconds = 0
    reply_text: str | None = Field(None, description="Text of the contact's reply; null: a built-in one.")
    seed: Annotated[int, Field(ge=0, le=2**63 - 1, strict=True)] = Field(
        0, description="The same seed and the same messages give the same run. 0: random."
    )


class SmsRequest(Shape):
    """A text message from the number that TWILIO_PHONE_NUMBER names."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"to": "+15559876543", "body": "Hello"}]})

    recipient: str = Field(alias="to", description="Phone number to send to.")
    body: str = Field(description="Text.")
    conversation_id: str | None = Field(
        None, description="Refused unless it is the conversation of the two numbers."
    )
