"""What Twilio's answers and error codes mean for a message: one table."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import orjson

from services.providers.base import Accepted, Outcome, Rejected, Retryable, Unknown

# Seconds to wait before a code that says "later" is worth another attempt.
_LATER: Final = 60.0

# Codes of requests that were surely not carried out and may be repeated, with the seconds to wait.
_RETRYABLE: Final[Mapping[int, float | None]] = {
    20429: None,
    30001: None,
    30003: _LATER,
    30008: _LATER,
    30022: None,
}

# Codes of messages that no repetition helps.
_PERMANENT: Final = frozenset({21211, 21408, 21606, 21610, 21614, 21617, 30004, 30005, 30006, 30007, 30034})

# Codes that blame the account or its configuration: another provider may take the message.
_PROVIDER_FAULT: Final = frozenset({20003, 20005, 30002})

_PROVIDER_FAULT_STATUSES: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})

# Status callbacks bring the code alone.
_TEXTS: Final[Mapping[int, str]] = {
    30001: "queue overflow",
    30002: "account suspended",
    30003: "unreachable destination handset",
    30004: "message blocked",
    30005: "unknown destination handset",
    30006: "landline or unreachable carrier",
    30007: "message filtered",
    30008: "unknown error",
    30022: "rate limit of the registered campaign exceeded",
    30034: "message from an unregistered number",
}

_MAX_TEXT: Final = 500
_MAX_CODE_DIGITS: Final = 9


def outcome_of(status: int, body: str, retry_after: float | None) -> Outcome:
    """Return what an answer to a create request means; `retry_after` is in seconds.

    Twilio has no idempotency key, so whatever it may have carried out is Unknown, never Retryable.
    """
    answer = _read(body)
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        sid = answer.get("sid")
        if isinstance(sid, str) and sid:
            return Accepted(sid)
        return Unknown("unreadable_answer", f"HTTP {status} without a message SID")
    return _refusal(status, answer, retry_after)


def text_of(code: str) -> str:
    """Return what an error code means in a few words, or "" when it is not known here."""
    return _TEXTS.get(_number(code), "")


def printable(text: object) -> str:
    """Return a provider's text, bounded and without control characters; "" for what is none."""
    if not isinstance(text, str):
        return ""
    return "".join(mark if mark.isprintable() else " " for mark in text[:_MAX_TEXT]).strip()


def _refusal(status: int, answer: Mapping[str, Any], retry_after: float | None) -> Outcome:
    """Return what an answer without success means: its code decides, then its status."""
    number = _number(answer.get("code"))
    code = str(number) if number else f"http_{status}"
    text = printable(answer.get("message")) or f"HTTP {status}"
    if number in _RETRYABLE or status == HTTPStatus.TOO_MANY_REQUESTS:
        wait = _RETRYABLE.get(number) if retry_after is None else retry_after
        return Retryable(code if number else "20429", text, wait)
    if number in _PROVIDER_FAULT:
        return Rejected(code, text, provider_fault=True)
    if number in _PERMANENT:
        return Rejected(code, text)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
        return Unknown(code, text)
    # A redirect comes from something that is not Twilio's API: the address is misconfigured.
    fault = status in _PROVIDER_FAULT_STATUSES or status < HTTPStatus.BAD_REQUEST
    return Rejected(code, text, provider_fault=fault)


def _read(body: str) -> Mapping[str, Any]:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _number(code: object) -> int:
    """Return a code as a number, 0 when it is none."""
    text = str(code) if isinstance(code, (int, str)) else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_CODE_DIGITS else 0
