"""SendGrid's Event Webhook: how a request is signed, checked and understood."""

import base64
import binascii
import hashlib
import time
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from services.kit.logs import get_logger
from services.providers.base import MalformedWebhookError, Receipt, WebhookContent, WebhookRequest

_log = get_logger(__name__)

SIGNATURE_HEADER: Final = "X-Twilio-Email-Event-Webhook-Signature"
TIMESTAMP_HEADER: Final = "X-Twilio-Email-Event-Webhook-Timestamp"

# Names of the custom arguments by which an event is known to be ours.
MESSAGE_ARG: Final = "message_id"
ATTEMPT_ARG: Final = "message_attempt"

# Seconds a signature is good for, before and after its timestamp.
FRESHNESS: Final = 300

_MAX_TIMESTAMP_DIGITS: Final = 12
_MAX_ATTEMPT: Final = 32_767
_MAX_TEXT: Final = 500

# What each event makes of a message; empty: it is kept as news and moves nothing.
_STATES: Final = {
    # SendGrid has it: this settles an attempt whose answer was lost, and is old news for every other.
    "processed": "sent",
    "deferred": "",
    "delivered": "delivered",
    "bounce": "undelivered",
    "dropped": "undelivered",
    # A picture was loaded, often by a machine on the way: no proof that anybody has read.
    "open": "",
    "click": "",
    "spamreport": "",
    "unsubscribe": "",
    "group_unsubscribe": "",
    "group_resubscribe": "",
}


def load_public_key(text: str) -> EllipticCurvePublicKey:
    """Return the key as SendGrid shows it, base64 of its DER, or raise ValueError."""
    try:
        key = load_der_public_key(base64.b64decode("".join(text.split()), validate=True))
    except Exception as error:  # the library's errors differ with what is wrong with the key
        raise ValueError("is not a public key in base64 of its DER") from error
    if not isinstance(key, EllipticCurvePublicKey):
        raise ValueError("is not an elliptic-curve public key")  # noqa: TRY004 - the setting's value is at fault
    return key


def verify_signature(key: EllipticCurvePublicKey, request: WebhookRequest) -> bool:
    """Tell whether SendGrid signed this request within FRESHNESS seconds of now.

    ECDSA with SHA-256 over the timestamp header, in Unix seconds, followed by the raw body.
    """
    timestamp = request.headers.get(TIMESTAMP_HEADER.lower(), "")
    signature = _from_base64(request.headers.get(SIGNATURE_HEADER.lower(), ""))
    if signature is None or not (timestamp.isascii() and timestamp.isdigit()):
        return False
    if len(timestamp) > _MAX_TIMESTAMP_DIGITS or abs(time.time() - int(timestamp)) > FRESHNESS:
        return False
    try:
        key.verify(signature, timestamp.encode() + request.body, ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def parse_events(body: bytes) -> WebhookContent:
    """Return the receipts of a request's JSON array, or raise MalformedWebhookError when it is none.

    What is no event, or of a kind not known here, is passed over and logged once for the request:
    SendGrid would send it and its neighbours again and again for a day.
    """
    try:
        events = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise MalformedWebhookError("body is not JSON") from None
    if not isinstance(events, list):
        raise MalformedWebhookError("body is not a JSON array")
    receipts: list[Receipt] = []
    passed_over: list[str] = []
    for event in events:
        kind = _text(event, "event") if isinstance(event, dict) else ""
        if kind in _STATES:
            receipts.append(_receipt(event, kind))
        else:
            passed_over.append(kind[:40])
    if passed_over:
        _log.error("webhook_events_passed_over", provider="sendgrid", kinds=sorted(set(passed_over))[:20])
    return WebhookContent(receipts=receipts, refused_count=len(passed_over))


def _receipt(event: dict[str, Any], kind: str) -> Receipt:
    state = _STATES[kind]
    reason = _text(event, "reason") or _text(event, "response")
    return Receipt(
        event_key=_event_key(event, kind),
        state=state,
        message_id=_text(event, MESSAGE_ARG),
        provider_message_id=_message_id(_text(event, "sg_message_id")),
        attempt=_attempt(event),
        provider_time=_time(event),
        error_code=(_text(event, "status") or kind) if state == "undelivered" else "",
        detail=f"{kind}: {reason}"[:_MAX_TEXT] if reason else kind,
    )


def _event_key(event: dict[str, Any], kind: str) -> str:
    """Return what stays the same when SendGrid sends an event again.

    sg_event_id is what its documentation offers, but it has been seen to change on retries, and then
    every retry would be news. What happened to which message, for whom and when cannot change. The link is
    part of it, since two may be clicked in one second; sg_event_id only where nothing else tells events
    apart.
    """
    message = _text(event, "sg_message_id") or _text(event, MESSAGE_ARG) or _text(event, "smtp-id")
    moment = _text(event, "timestamp")
    identity = [message, kind, _text(event, "email").lower(), moment, _text(event, "url")]
    if not (message and moment):
        identity.append(_text(event, "sg_event_id"))
    return hashlib.blake2b(orjson.dumps(identity), digest_size=20).hexdigest()


def _message_id(text: str) -> str:
    """Return the X-Message-Id that an sg_message_id begins with.

    The rest names the machines that handled it: `.filter0001.16648.5515E0B88.0`, `.recvd-59f4-...`.
    """
    for separator in (".filter", ".recv"):
        head, found, _ = text.partition(separator)
        if found:
            return head[:255]
    return text[:255]


def _text(event: dict[str, Any], name: str) -> str:
    """Return a field as text, "" when it is missing or neither text nor number. No database takes NUL."""
    value = event.get(name)
    if isinstance(value, str):
        return value.replace("\0", "")
    return str(value) if type(value) in {int, float} else ""


def _attempt(event: dict[str, Any]) -> int:
    text = _text(event, ATTEMPT_ARG)
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(_MAX_ATTEMPT)):
        return 0
    return int(text) if int(text) <= _MAX_ATTEMPT else 0


def _time(event: dict[str, Any]) -> datetime | None:
    """Return when it happened, None when the event does not say: then it counts from its arrival."""
    try:
        return datetime.fromtimestamp(float(_text(event, "timestamp")), UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _from_base64(text: str) -> bytes | None:
    """Return the bytes, None for what is not their one base64 form: other spellings are not SendGrid's."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if data and base64.b64encode(data).decode() == text else None
