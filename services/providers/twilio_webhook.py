"""Twilio's webhooks: how a request is checked, and what it says. Media are noted, never fetched."""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from twilio.request_validator import (
    HMAC_SHA1,
    HMAC_SHA256,
    SIGNATURE_HEADER,
    SIGNATURE_SETTINGS_HEADER,
    get_signature_algorithm,
)

from services.kit.fields import METADATA_KEY_LENGTH, METADATA_PAIRS, METADATA_VALUE_LENGTH
from services.kit.ids import is_canonical
from services.providers.base import Inbound, MalformedWebhookError, Receipt, WebhookContent, WebhookRequest
from services.providers.twilio_errors import printable, text_of
from services.providers.twilio_form import Parameters, form_of, read_json

# Query parameter under which a request with a JSON body carries the body's digest.
BODY_HASH: Final = "bodySHA256"

ANSWER_TYPE: Final = "text/xml"
ANSWER_BODY: Final = b'<?xml version="1.0" encoding="UTF-8"?><Response/>'

# What each status moves a message to; empty: it is kept as news and moves nothing.
STATES: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("accepted", "scheduled", "queued", "sending", "receiving", "received", "partially_delivered"), ""
    ),
    "sent": "sent",
    "delivered": "delivered",
    "read": "read",
    "undelivered": "undelivered",
    # Twilio had it. Our FAILED is for what was given up before that, and nothing moves there from SENT.
    "failed": "undelivered",
    "canceled": "undelivered",
}

# The names and digests of Twilio's algorithms.
_DIGESTS: Final = {HMAC_SHA1: "sha1", HMAC_SHA256: "sha256"}
_SIGNATURE_HEADER: Final = SIGNATURE_HEADER.lower()
_SETTINGS_HEADER: Final = SIGNATURE_SETTINGS_HEADER.lower()

_DEFAULT_PORTS: Final = {"https": 443, "http": 80}

_TARGET: Final = re.compile(r"[/?]")
_SID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NUMBER: Final = re.compile(r"[0-9]{1,9}")

# Twilio attaches ten at most.
_MAX_MEDIA: Final = 50
_MAX_MEDIA_URL: Final = 2048
_MAX_ATTEMPT: Final = 32_767

# Parameters that have a place of their own, and names of old for the same.
_PLACED: Final = frozenset(
    {"MessageSid", "SmsSid", "SmsMessageSid", "SmsStatus", "From", "To", "Body", "NumMedia", "ApiVersion"}
)
_MEDIA_URL: Final = re.compile(r"MediaUrl[0-9]{1,9}")
_MEDIA: Final = re.compile(r"Media(?:Url|ContentType)\d+")


@dataclass(frozen=True, slots=True)
class WebhookKeys:
    """What Twilio signs with: the account's auth token, or a shared key of Webhook Signature settings."""

    auth_token: str = field(default="", repr=False)
    shared_key: str = field(default="", repr=False)


def origins_of(base_url: str) -> tuple[str, ...]:
    """Return a public address as it is set, and with or without its port: Twilio may sign either.

    Raises ValueError for what is not an http(s) address.
    """
    base_url = base_url.rstrip("/")
    parts = urlsplit(base_url)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("is not an http(s) address")
    if parts.port is None:
        other = parts._replace(netloc=f"{parts.netloc}:{_DEFAULT_PORTS[parts.scheme]}")
    else:
        other = parts._replace(netloc=parts.netloc.removesuffix(f":{parts.port}"))
    return base_url, other.geturl()


def verify_signature(keys: WebhookKeys, origins: Sequence[str], request: WebhookRequest) -> bool:
    """Tell whether Twilio made this request to one of the gateway's public addresses.

    Of the URL the request claims only path and query are believed. Without a key nothing is genuine. The
    SDK's RequestValidator does the same for one URL, and joins the parameters anew for each of its forms.
    """
    signature = request.headers.get(_SIGNATURE_HEADER, "").encode(errors="surrogateescape")
    settings = request.headers.get(_SETTINGS_HEADER, "")
    algorithm = get_signature_algorithm(settings).upper() if settings else HMAC_SHA1
    key = {HMAC_SHA1: keys.auth_token, HMAC_SHA256: keys.shared_key}.get(algorithm, "")
    target = _target(request.url)
    parameters = _signed_parameters(request, target)
    if not (key and signature) or parameters is None:
        return False
    signed = target + "".join(
        [name + value for name in sorted(parameters) for value in sorted(parameters[name])]
    )
    try:
        return any(
            hmac.compare_digest(_sign(key, origin + signed, _DIGESTS[algorithm]), signature)
            for origin in origins
        )
    except UnicodeEncodeError:
        return False


def _sign(key: str, text: str, digest: str) -> bytes:
    return base64.b64encode(hmac.digest(key.encode(), text.encode(), digest))


def parse_request(request: WebhookRequest) -> WebhookContent:
    """Return the receipt or the message of a verified request.

    Raises MalformedWebhookError naming the parameter at fault.
    """
    parameters = read_json(request.body) if _is_json(request) else form_of(request)
    if parameters is None:
        raise MalformedWebhookError("body is not a form or a JSON object")
    status = _once(parameters, "MessageStatus") or _once(parameters, "SmsStatus")
    if "MessageStatus" in parameters or status not in ("", "received", "receiving"):
        receipt = _receipt(parameters, status, request.url)
        return WebhookContent(receipts=[receipt], answer_type=ANSWER_TYPE, answer_body=ANSWER_BODY)
    return WebhookContent(inbound=[_inbound(parameters)], answer_type=ANSWER_TYPE, answer_body=ANSWER_BODY)


def _target(url: str) -> str:
    """Return path and query of a URL as they are written."""
    _, _, rest = url.partition("://")
    found = _TARGET.search(rest)
    return rest[found.start() :] if found else ""


def _signed_parameters(request: WebhookRequest, target: str) -> Parameters | None:
    """Return the parameters that the signature is over; None: it cannot be genuine.

    A body whose digest is in the URL is signed by that alone.
    """
    _, _, query = target.partition("?")
    if BODY_HASH in query:
        digests = parse_qs(query).get(BODY_HASH, [])
        digest = hashlib.sha256(request.body).hexdigest().encode()
        if len(digests) == 1 and hmac.compare_digest(digest, digests[0].encode(errors="surrogateescape")):
            return Parameters()
        return None
    return None if _is_json(request) else form_of(request)


def _is_json(request: WebhookRequest) -> bool:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"


def _receipt(parameters: Parameters, status: str, url: str) -> Receipt:
    query = _target(url).partition("?")[2].split("&")
    sid = _sid(parameters)
    status = status.lower()
    if status not in STATES:
        raise MalformedWebhookError("MessageStatus is not a status that is known")
    error_code = _once(parameters, "ErrorCode")
    if error_code and _NUMBER.fullmatch(error_code) is None:
        raise MalformedWebhookError("ErrorCode is not a number")
    state = STATES[status]
    detail = printable(_once(parameters, "ErrorMessage")) or text_of(error_code)
    if not detail and status != state:
        detail = status
    # RawDlrDoneDate is whatever the carrier wrote, in whatever time zone: no time is better than that one.
    return Receipt(
        event_key=f"{sid}:{status}",
        state=state,
        message_id=_message_id(query),
        provider_message_id=sid,
        attempt=_attempt(query),
        error_code="" if error_code == "0" else error_code,
        detail=detail,
    )


def _inbound(parameters: Parameters) -> Inbound:
    sid = _sid(parameters)
    if "Body" not in parameters:  # Twilio sends it always, if need be empty
        raise MalformedWebhookError("Body is missing")
    attachments = _attachments(parameters)
    return Inbound(
        event_key=sid,
        channel="mms" if attachments else "sms",
        sender=_required(parameters, "From"),
        recipient=_required(parameters, "To"),
        body=_once(parameters, "Body"),
        attachments=attachments,
        provider_message_id=sid,
        metadata=_metadata(parameters),
    )


def _attachments(parameters: Parameters) -> list[dict[str, Any]]:
    count = _once(parameters, "NumMedia") or "0"
    if _NUMBER.fullmatch(count) is None or int(count) > _MAX_MEDIA:
        raise MalformedWebhookError(f"NumMedia is not a number up to {_MAX_MEDIA}")
    if any(_MEDIA_URL.fullmatch(name) and int(name[8:]) >= int(count) for name in parameters):
        raise MalformedWebhookError("NumMedia is less than there are media")
    return [
        {
            "url": _media_url(parameters, f"MediaUrl{number}"),
            "content_type": printable(_once(parameters, f"MediaContentType{number}"))
            or "application/octet-stream",
            "filename": "",
        }
        for number in range(int(count))
    ]


def _media_url(parameters: Parameters, name: str) -> str:
    url = _required(parameters, name)
    if not url.startswith(("https://", "http://")) or len(url) > _MAX_MEDIA_URL or not url.isprintable():
        raise MalformedWebhookError(f"{name} is not an http(s) URL")
    return url


def _metadata(parameters: Parameters) -> dict[str, str]:
    """Return the parameters that have no place of their own, as far as they are bounded."""
    rest = {
        name: values[0]
        for name, values in sorted(parameters.items())
        if name not in _PLACED
        and _MEDIA.fullmatch(name) is None
        and len(name) <= METADATA_KEY_LENGTH
        and 0 < len(values[0]) <= METADATA_VALUE_LENGTH
    }
    return dict(list(rest.items())[:METADATA_PAIRS])  # the rest is in the kept raw request


def _sid(parameters: Parameters) -> str:
    sid = _required(parameters, "MessageSid")
    if _SID.fullmatch(sid) is None:
        raise MalformedWebhookError("MessageSid is not a SID")
    return sid


def _required(parameters: Parameters, name: str) -> str:
    value = _once(parameters, name)
    if not value:
        raise MalformedWebhookError(f"{name} is missing")
    return value


def _once(parameters: Parameters, name: str) -> str:
    """Return the value of a parameter that may come once, "" when it is missing."""
    if len(parameters.get(name, ())) > 1:
        raise MalformedWebhookError(f"{name} is repeated")
    return parameters.first(name)


def _message_id(query: Sequence[str]) -> str:
    """Return our id, "" when the callback is of a message that was not sent with one."""
    text = _only(query, "message_id")
    if text is not None and not is_canonical(text):
        raise MalformedWebhookError("message_id of the URL is not an id")
    return text or ""


def _attempt(query: Sequence[str]) -> int:
    text = _only(query, "attempt")
    if text is None:
        return 0
    if _NUMBER.fullmatch(text) is None or not 0 < int(text) <= _MAX_ATTEMPT:
        raise MalformedWebhookError(f"attempt of the URL is not a number from 1 to {_MAX_ATTEMPT}")
    return int(text)


def _only(query: Sequence[str], name: str) -> str | None:
    """Return the value of a parameter of ours in the URL, None without it, "" when it is repeated."""
    values = [pair[len(name) + 1 :] for pair in query if pair.startswith(name + "=")]
    return (values[0] if len(values) == 1 else "") if values else None
