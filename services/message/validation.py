"""Checks what comes in and turns it into drafts that the ledger can store."""

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from google.protobuf.timestamp_pb2 import Timestamp

from posthouse.v1.message_service_pb2 import SendMessageRequest
from services.kit.enum_names import CHANNEL, PRIORITY
from services.kit.errors import InvalidRequestError, Violation
from services.kit.fields import NUL, metadata_faults
from services.ledger.addresses import Address, InvalidAddressError, normalise
from services.ledger.arrays import storable
from services.ledger.drafts import Draft
from services.ledger.threading import conversation_id, conversation_key, family_of
from services.message.attachments import check_attachments
from services.message.consent import keyword_of
from services.message.segments import measure
from services.providers.base import Inbound

# Characters a body may have. E-mail is bounded by its size instead.
MAX_BODY_LENGTH: Final = {"sms": 1600, "mms": 1600, "voice": 4000}
MAX_EMAIL_TEXT_BYTES: Final = 1 << 20
MAX_SUBJECT_LENGTH: Final = 998  # RFC 5322, 2.1.1
MAX_SCHEDULE_AHEAD: Final = timedelta(days=35)

_SMALLINT_MAX = 32_767
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,255}")


def check_send(request: SendMessageRequest, *, now: datetime, strict_phones: bool, sender: str = "") -> Draft:
    """Return the draft of a request, or raise InvalidRequestError with every violation in it.

    `sender` is the one that was chosen for a request that has none.
    """
    faults: list[Violation] = []
    our = read_address(faults, "sender", sender or request.sender, strict_phones, True)
    recipient = read_address(faults, "recipient", request.recipient, strict_phones, False)
    given = request.attachments
    attached = bool(given)
    channel = read_channel(faults, request.channel, recipient, attached)
    if our is not None:
        _check_sender(faults, channel, our, recipient)
    body, subject, html = request.body, request.subject, request.html
    if not (body or html or attached):
        faults.append(Violation("body", "must not be empty without attachments"))
    _check_texts(faults, channel, body, subject, html)
    attachments = check_attachments(faults, channel, given) if attached else None
    labels = request.metadata
    metadata = dict(labels) if labels else None
    if metadata:
        faults += metadata_faults("metadata", metadata)
    send_time = expire_time = None
    if request.HasField("send_time") or request.HasField("expire_time"):
        send_time, expire_time = _times(faults, request, now)
    priority = PRIORITY.word(request.priority)
    if not priority and request.priority:
        faults.append(Violation("priority", "is not a known priority"))
    request_id = request.request_id
    if request.transactional and channel not in ("email", ""):
        faults.append(Violation("transactional", "is for e-mail only"))
    reply_to = _reply_to(faults, channel, request.reply_to) if request.reply_to else None
    if request_id and not is_request_id(request_id):
        faults.append(Violation("request_id", "must be 1 to 255 visible ASCII characters"))
    if faults or our is None or recipient is None:
        raise InvalidRequestError.of(faults)

    family = family_of(channel)
    participant_a, participant_b = conversation_key(family, our.canonical, recipient.canonical)
    segments = measure(body) if channel == "sms" else None
    return Draft(
        channel=channel,
        direction="outbound",
        sender=our.canonical,
        recipient=recipient.canonical,
        conversation_id=conversation_id(family, participant_a, participant_b),
        family=family,
        participant_a=participant_a,
        participant_b=participant_b,
        body=body,
        sender_original=_original(our),
        recipient_original=_original(recipient),
        subject=subject or None,
        html=html or None,
        attachments=_json(attachments),
        metadata=_json(metadata),
        priority=priority or "normal",
        segment_count=segments.count if segments else 0,
        segment_encoding=segments.encoding if segments else None,
        send_time=send_time,
        expire_time=expire_time,
        transactional=request.transactional,
        request_id=request_id,
        request_hash=request_hash(request) if request_id else None,
        reply_to=reply_to,
    )


def inbound_draft(
    inbound: Inbound, *, now: datetime, source: str | None = None, webhook_log_id: str | None = None
) -> Draft:
    """Return the draft of a contact's message, taking all it can be made to mean.

    `source` is the provider that brought it. Only addresses that cannot be read, or do not fit the
    channel, raise InvalidRequestError. What PostgreSQL cannot store is removed, and a provider's time
    in the future becomes `now`.
    """
    faults: list[Violation] = []
    sender = read_address(faults, "sender", inbound.sender, False, True)
    recipient = read_address(faults, "recipient", inbound.recipient, False, True)
    channel = inbound.channel or ("email" if recipient is not None and recipient.kind == "email" else "sms")
    if channel == "sms" and inbound.attachments:
        channel = "mms"
    for field, address in (("sender", sender), ("recipient", recipient)):
        if address is not None and (address.kind == "email") != (channel == "email"):
            faults.append(Violation(field, f"does not fit the channel {channel}"))
    if faults or sender is None or recipient is None:
        raise InvalidRequestError.of(faults)

    family = family_of(channel)
    participant_a, participant_b = conversation_key(family, sender.canonical, recipient.canonical)
    body = storable(inbound.body)
    segments = measure(body) if channel == "sms" else None
    time = inbound.provider_time
    if time is not None and time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return Draft(
        channel=channel,
        direction="inbound",
        sender=sender.canonical,
        recipient=recipient.canonical,
        conversation_id=conversation_id(family, participant_a, participant_b),
        family=family,
        participant_a=participant_a,
        participant_b=participant_b,
        body=body,
        sender_original=_original(sender),
        recipient_original=_original(recipient),
        subject=storable(inbound.subject) or None,
        html=storable(inbound.html) or None,
        attachments=_json([_storable_mapping(item) for item in inbound.attachments]),
        metadata=_json(_storable_mapping(inbound.metadata)),
        segment_count=min(segments.count, _SMALLINT_MAX) if segments else 0,
        segment_encoding=segments.encoding if segments else None,
        message_time=now if time is None else min(time, now),
        source=source,
        event_key=storable(inbound.event_key),
        provider_message_id=storable(inbound.provider_message_id) or None,
        webhook_log_id=webhook_log_id,
        keyword=keyword_of(body, family),
    )


def read_address(
    faults: list[Violation], field: str, text: str, strict: bool, as_sender: bool
) -> Address | None:
    """Return the address in a field, or None and add what is wrong with it to `faults`."""
    try:
        return normalise(text, strict=strict, allow_short_code=as_sender, allow_alphanumeric=as_sender)
    except InvalidAddressError as error:
        faults.append(Violation(field, str(error)))
        return None


def _reply_to(faults: list[Violation], channel: str, text: str) -> str | None:
    """Return the canonical address that answers are to go to, or None and add what is wrong with it."""
    if channel not in ("email", ""):
        faults.append(Violation("reply_to", "is for e-mail only"))
        return None
    if "@" not in text:
        faults.append(Violation("reply_to", "must be an e-mail address"))
        return None
    address = read_address(faults, "reply_to", text, False, False)
    return address.canonical if address is not None else None


def _original(address: Address) -> str | None:
    return None if address.original == address.canonical else address.original


def read_channel(faults: list[Violation], asked: int, recipient: Address | None, attached: bool) -> str:
    """Return the channel's word, or "" when the request does not tell; what is wrong goes to `faults`."""
    channel = CHANNEL.word(asked)
    to_email = recipient is not None and recipient.kind == "email"
    if not channel:
        if asked:
            faults.append(Violation("channel", "is not a known channel"))
        if asked or recipient is None:
            return ""
        channel = "email" if to_email else "sms"
    elif recipient is not None and (channel == "email") != to_email:
        faults.append(Violation("channel", f"{channel} does not reach the recipient's kind of address"))
        return ""
    if channel == "sms" and attached:
        return "mms"
    if channel == "mms" and not attached:
        faults.append(Violation("attachments", "must not be empty for mms"))
    return channel


def _check_sender(faults: list[Violation], channel: str, sender: Address, recipient: Address | None) -> None:
    if channel and (sender.kind == "email") != (channel == "email"):
        wanted = "an e-mail address" if channel == "email" else "a phone number or sender id"
        faults.append(Violation("sender", f"must be {wanted} for {channel}"))
    elif recipient is not None and sender.canonical == recipient.canonical:
        faults.append(Violation("recipient", "must not be the sender"))


def _check_texts(faults: list[Violation], channel: str, body: str, subject: str, html: str) -> None:
    limit = MAX_BODY_LENGTH.get(channel)
    if limit is None:
        _check_size(faults, "body", body)
    elif len(body) > limit:
        faults.append(Violation("body", f"must not be longer than {limit} characters for {channel}"))
    if "\0" in body:
        faults.append(Violation("body", NUL))
    if subject:
        _check_subject(faults, channel, subject)
    if html:
        if channel not in ("email", ""):
            faults.append(Violation("html", "is for e-mail only"))
        _check_size(faults, "html", html)
        if "\0" in html:
            faults.append(Violation("html", NUL))


def _check_size(faults: list[Violation], field: str, text: str) -> None:
    # A character has four bytes at most: few texts need to be encoded to be sure.
    if len(text) * 4 > MAX_EMAIL_TEXT_BYTES and len(text.encode()) > MAX_EMAIL_TEXT_BYTES:
        faults.append(Violation(field, f"must not be larger than {MAX_EMAIL_TEXT_BYTES} bytes"))


def _check_subject(faults: list[Violation], channel: str, subject: str) -> None:
    if channel not in ("email", ""):
        faults.append(Violation("subject", "is for e-mail only"))
    if len(subject) > MAX_SUBJECT_LENGTH:
        faults.append(Violation("subject", f"must not be longer than {MAX_SUBJECT_LENGTH} characters"))
    if "\r" in subject or "\n" in subject:
        faults.append(Violation("subject", "must not contain line breaks"))
    if "\0" in subject:
        faults.append(Violation("subject", NUL))


def _times(
    faults: list[Violation], request: SendMessageRequest, now: datetime
) -> tuple[datetime | None, datetime | None]:
    """Return send_time, None when it is not in the future, and expire_time."""
    send_time = expire_time = None
    if request.HasField("send_time"):
        send_time = _time(faults, "send_time", request.send_time)
        if send_time is not None and send_time <= now:
            send_time = None
        if send_time is not None and send_time - now > MAX_SCHEDULE_AHEAD:
            faults.append(
                Violation("send_time", f"must not be more than {MAX_SCHEDULE_AHEAD.days} days ahead")
            )
    if request.HasField("expire_time"):
        expire_time = _time(faults, "expire_time", request.expire_time)
        if expire_time is not None and expire_time <= now:
            faults.append(Violation("expire_time", "must be in the future"))
        elif expire_time is not None and send_time is not None and expire_time <= send_time:
            faults.append(Violation("expire_time", "must be after the time of sending"))
    return send_time, expire_time


def _time(faults: list[Violation], field: str, timestamp: Timestamp) -> datetime | None:
    try:
        return timestamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        faults.append(Violation(field, "is not a valid time"))
        return None


def is_request_id(text: str) -> bool:
    """Tell whether a text can be an idempotency key."""
    return _REQUEST_ID.fullmatch(text) is not None


def request_hash(request: SendMessageRequest) -> bytes:
    """Return what tells two payloads under one request_id apart."""
    payload = SendMessageRequest()
    payload.CopyFrom(request)
    payload.ClearField("request_id")
    return hashlib.blake2b(payload.SerializeToString(deterministic=True), digest_size=16).digest()


def _json(value: Any) -> str | None:
    return orjson.dumps(value).decode() if value else None


def _storable_mapping(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {
        storable(key): storable(value) if isinstance(value, str) else value for key, value in mapping.items()
    }
