"""Problem details (RFC 9457): the one place that turns errors into HTTP answers."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import grpc
import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from services.kit.errors import PosthouseError, Violation

CONTENT_TYPE = "application/problem+json"

_STATUS_OF_CODE: Mapping[grpc.StatusCode, int] = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.FAILED_PRECONDITION: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 503,
}
# Reasons that say more than their code.
_STATUS_OF_REASON = {
    "IDEMPOTENCY_KEY_REUSED": 422,
    "OPTED_OUT": 422,
    "TOO_LARGE": 413,
    "MESSAGE_ERASED": 410,
}

# Answers of the HTTP layer itself, which no service gives a reason for.
_REASON_OF_STATUS = {
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    408: "TOO_SLOW",
    413: "TOO_LARGE",
    414: "TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    431: "TOO_LARGE",
}

_FIELD_OF_STATUS = {413: "body", 415: "Content-Type"}

_TITLES = {
    "INVALID_FIELD": "The request is not valid",
    "INVALID_PAGE_TOKEN": "The page token is not valid",
    "OVERLOADED": "Too much work is waiting",
    "RATE_LIMITED": "A rate limit is used up",
    "DEPENDENCY_UNAVAILABLE": "A dependency does not answer",
    "IDEMPOTENCY_KEY_REUSED": "The idempotency key was used with another payload",
    "MESSAGE_ERASED": "The message of the idempotency key has been erased",
    "OPTED_OUT": "The recipient has opted out",
    "INTERNAL": "Posthouse failed",
}

# Statuses that ask the caller to come back, even when nobody said when.
_RETRIED = frozenset({429, 503})
_MOST_ERRORS = 50
_LONGEST_FIELD = 200
_SERVER_FAULT = 500
_NO_CREDENTIAL = 401

# Names of the contract's fields where JSON has another word.
REST_NAMES = {
    "sender": "from",
    "recipient": "to",
    "channel": "type",
    "state": "status",
    "send_time": "send_at",
    "expire_time": "expires_at",
    "message_time": "message_at",
    "since_time": "since",
    "until_time": "until",
    "requests": "messages",
    "after_event_id": "Last-Event-ID",
}
# Fields of the contract that JSON has no level for.
_UNWRAPPED = frozenset({"message", "profile", "conversation", "subscription"})
_ITEM = re.compile(r"messages\[\d+\]")


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a request, or one item of it, was refused."""

    status: int
    reason: str
    detail: str
    errors: Sequence[Violation] = ()
    retry_after: float | None = None
    # Methods that the path has, where the one of the request is none of them.
    allow: str = ""

    def members(self, instance: str, request_id: str) -> dict[str, Any]:
        """Return the problem's JSON members. Items of a batch have no header to say when to come again."""
        later = {} if self.retry_after is None else {"retry_after": _whole_seconds(self.retry_after)}
        return {
            "type": f"urn:posthouse:problem:{self.reason.lower().replace('_', '-')}",
            "title": _TITLES.get(self.reason) or self.reason.replace("_", " ").capitalize(),
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
            "reason": self.reason,
            "errors": [{"field": error.field, "message": error.description} for error in self.errors],
            "request_id": request_id,
            **later,
        }

    def headers(self) -> dict[str, str]:
        """Return the headers that go with the problem; Retry-After is in whole seconds, at least 1."""
        if self.status == _NO_CREDENTIAL:
            return {"www-authenticate": "Bearer"}
        if self.allow:
            return {"allow": self.allow}
        if self.retry_after is None and self.status not in _RETRIED:
            return {}
        return {"retry-after": str(_whole_seconds(self.retry_after or 0))}


def from_error(error: PosthouseError, *, item: str = "") -> Problem:
    """Return the problem of a typed error, with its fields under their JSON names.

    `item` is the place of a batch's item, as in "messages[3]".
    """
    status = _STATUS_OF_REASON.get(error.reason) or _STATUS_OF_CODE.get(error.code, _SERVER_FAULT)
    if status == _SERVER_FAULT:
        return internal()
    errors = [Violation(rest_field(v.field, item=item), v.description) for v in error.violations]
    # Which key it is is not in the name of the field.
    detail = error.message if error.reason == "IDEMPOTENCY_KEY_REUSED" else _detail(errors) or error.message
    return Problem(status, error.reason, detail, errors, error.retry_after)


def from_validation(found: Iterable[Mapping[str, Any]], *, item: str = "") -> Problem:
    """Return the problem of what pydantic found."""
    return invalid(
        Violation(_location(error["loc"], item, error["type"]), _describe(error)) for error in found
    )


def invalid(violations: Iterable[Violation]) -> Problem:
    """Return the problem of fields at fault under their JSON names: the first of many, and of long names."""
    errors = [
        Violation(each.field[:_LONGEST_FIELD], each.description) for each in islice(violations, _MOST_ERRORS)
    ]
    return Problem(400, "INVALID_FIELD", _detail(errors), errors)


def from_http(error: HTTPException) -> Problem:
    """Return the problem of an answer that routing or body reading gave."""
    status = error.status_code
    reason = _REASON_OF_STATUS.get(status, "INVALID_FIELD")
    field = _FIELD_OF_STATUS.get(status)
    if field is None:
        return Problem(status, reason, str(error.detail), allow=(error.headers or {}).get("Allow", ""))
    errors = [Violation(field, str(error.detail))]
    return Problem(status, reason, _detail(errors), errors)


def wrong_method(allowed: str) -> Problem:
    """Return the problem of a method that a path does not have."""
    return from_http(HTTPException(405, headers={"Allow": allowed}))


def encoded() -> Problem:
    """Return the problem of a body that is compressed, which nothing here unpacks."""
    errors = [Violation("Content-Encoding", "must be identity: bodies are taken as they are")]
    return Problem(415, "UNSUPPORTED_MEDIA_TYPE", _detail(errors), errors)


def internal() -> Problem:
    """Return the problem of a fault of ours; the cause is in the log only."""
    return Problem(
        _SERVER_FAULT, "INTERNAL", "an internal error; the log line with this request id has the cause"
    )


def response(problem: Problem, scope: Scope) -> Response:
    """Return the HTTP answer of a problem."""
    return Response(
        orjson.dumps(problem.members(scope["path"], scope["state"]["request_id"])),
        status_code=problem.status,
        headers=problem.headers(),
        media_type=CONTENT_TYPE,
    )


def rest_field(field: str, *, item: str = "") -> str:
    """Return a field's JSON name: `recipient` is `to`, `requests[3].sender` is `messages[3].from`."""
    segments = field.split(".")
    if len(segments) > 1 and segments[0] in _UNWRAPPED:
        segments = segments[1:]
    if segments[0] != "metadata":
        segments = [_rest_segment(segment) for segment in segments]
    if item and not _ITEM.fullmatch(segments[0]):
        segments.insert(0, item)
    in_batch = _ITEM.fullmatch(segments[0]) is not None
    if segments[-1] == "request_id":
        segments[-1] = "idempotency_key" if in_batch else "Idempotency-Key"
    return ".".join(segments)


def _whole_seconds(seconds: float) -> int:
    return max(1, math.ceil(seconds))


def _rest_segment(segment: str) -> str:
    name, bracket, index = segment.partition("[")
    return REST_NAMES.get(name, name) + bracket + index


def _detail(errors: Sequence[Violation]) -> str:
    return "; ".join(f"{error.field}: {error.description}" for error in errors)


def _location(location: Sequence[str | int], item: str, kind: str) -> str:
    if not location or kind == "json_invalid":
        return item or "body"
    field = item
    for part in location:
        field += f"[{part}]" if isinstance(part, int) else f".{part}" if field else part
    return field


def _describe(error: Mapping[str, Any]) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "json_invalid":
        return f"is not valid JSON: {context['error']}"
    if kind == "literal_error":
        return f"must be one of {context['expected'].replace(' or ', ', ').replace(chr(39), '')}"
    if kind in _DESCRIPTIONS:
        return _DESCRIPTIONS[kind]
    text: str = error["msg"].removeprefix("Value error, ").replace("Input should", "must")
    text = re.sub(r"^\w+ should", "must", text)
    return text[:1].lower() + text[1:]


_DESCRIPTIONS = {
    "missing": "is required",
    "extra_forbidden": "is not a field of this request",
    "string_type": "must be a string",
    "list_type": "must be a list",
    "dict_type": "must be a JSON object",
    "model_type": "must be a JSON object",
    "model_attributes_type": "must be a JSON object",
}
