"""The simulator's webhook: how a request is signed, checked and understood."""

import hashlib
import hmac
import time
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import orjson

from services.kit.logs import get_logger
from services.providers.base import Inbound, MalformedWebhookError, Receipt, WebhookContent, WebhookRequest

_log = get_logger(__name__)

TIMESTAMP_HEADER: Final = "X-Posthouse-Simulator-Timestamp"
SIGNATURE_HEADER: Final = "X-Posthouse-Simulator-Signature"

# Seconds a signature is good for, before and after its timestamp.
FRESHNESS: Final = 300

_MAX_TIMESTAMP_DIGITS: Final = 12

_RECEIPTS: Final = frozenset({"delivered", "undelivered"})


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """Return the hex HMAC-SHA256 of `timestamp.body`; the timestamp is in Unix seconds."""
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def verify_signature(secret: str, request: WebhookRequest) -> bool:
    """Tell whether the holder of the secret signed this request within FRESHNESS seconds of now.

    Without a secret nothing is genuine.
    """
    timestamp = request.headers.get(TIMESTAMP_HEADER.lower(), "")
    signature = request.headers.get(SIGNATURE_HEADER.lower(), "")
    if (
        not secret
        or not (timestamp.isascii() and timestamp.isdigit())
        or len(timestamp) > _MAX_TIMESTAMP_DIGITS
    ):
        return False
    genuine = hmac.compare_digest(
        sign(secret, timestamp, request.body).encode(), signature.encode(errors="surrogateescape")
    )
    return genuine and abs(time.time() - int(timestamp)) <= FRESHNESS


def parse_events(body: bytes) -> WebhookContent:
    """Return the news of a request's JSON array; events of kinds not known here are passed over.

    Raises MalformedWebhookError naming the event and the field at fault.
    """
    try:
        events = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise MalformedWebhookError("body is not JSON") from None
    if not isinstance(events, list):
        raise MalformedWebhookError("body is not a JSON array")
    receipts: list[Receipt] = []
    inbound: list[Inbound] = []
    passed_over: list[str] = []
    for position, event in enumerate(events):
        if not isinstance(event, dict):
            raise MalformedWebhookError(f"[{position}] is not an object")
        try:
            kind = _text(event, "event")
            if kind in _RECEIPTS:
                receipts.append(_receipt(event, kind))
            elif kind == "reply":
                inbound.append(_reply(event))
            else:
                passed_over.append(kind[:40])
        except _FieldError as error:
            raise MalformedWebhookError(f"[{position}].{error}") from None
    if passed_over:
        _log.error("webhook_events_passed_over", provider="simulator", kinds=sorted(set(passed_over))[:20])
    return WebhookContent(receipts=receipts, inbound=inbound, refused_count=len(passed_over))


class _FieldError(Exception):
    """A field is missing or not of its type; the text names it."""


def _receipt(event: dict[str, Any], kind: str) -> Receipt:
    provider_id = _text(event, "provider_message_id")
    return Receipt(
        event_key=f"{provider_id}:{kind}",
        state=kind,
        message_id=_text(event, "message_id"),
        provider_message_id=provider_id,
        attempt=_attempt(event),
        provider_time=_time(event),
        error_code=_optional_text(event, "error_code"),
    )


def _reply(event: dict[str, Any]) -> Inbound:
    provider_id = _text(event, "provider_message_id")
    return Inbound(
        event_key=f"{provider_id}:reply",
        channel=_text(event, "channel"),
        sender=_text(event, "from"),
        recipient=_text(event, "to"),
        body=_optional_text(event, "body"),
        subject=_optional_text(event, "subject"),
        provider_message_id=provider_id,
        provider_time=_time(event),
    )


def _text(event: dict[str, Any], field: str) -> str:
    text = _optional_text(event, field)
    if not text:
        raise _FieldError(f"{field} is missing")
    return text


def _optional_text(event: dict[str, Any], field: str) -> str:
    text = event.get(field, "")
    if not isinstance(text, str):
        raise _FieldError(f"{field} is not a text")
    if "\0" in text:  # no database column takes it
        raise _FieldError(f"{field} has a NUL character")
    return text


def _attempt(event: dict[str, Any]) -> int:
    attempt = event.get("attempt")
    if type(attempt) is not int or not 0 < attempt < 1 << 15:
        raise _FieldError("attempt is not a number from 1 to 32767")
    return attempt


def _time(event: dict[str, Any]) -> datetime | None:
    """Return when it happened, None when the event does not say: then it counts from its arrival."""
    text = event.get("timestamp")
    try:
        return _parse_time(text) if isinstance(text, str) else None
    except ValueError:
        return None


@lru_cache(maxsize=1024)
def _parse_time(text: str) -> datetime:
    """Return the time; events of a bundle share their timestamp."""
    time_read = datetime.fromisoformat(text)
    if time_read.tzinfo is None:
        raise ValueError(text)
    return time_read
