"""The typed errors that calls raise, from the google.rpc rich model that Posthouse answers with."""

from dataclasses import dataclass

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from posthouse.v1 import message_pb2, message_service_pb2


@dataclass(frozen=True, slots=True)
class Violation:
    """One field at fault: its name as in the request, and what is wrong with it."""

    field: str
    description: str


class PosthouseError(Exception):
    """Base of all refusals. `reason` is for programs (ErrorReason of the contract), the text for people.

    `retry_after` is in seconds, None where none was given; `request_id` is the idempotency key of a send that
    failed: whoever sends again by hand gives it again.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        reason: str,
        violations: tuple[Violation, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{reason}: {message}")
        self.code = code
        self.message = message
        self.reason = reason
        self.violations = violations
        self.retry_after = retry_after
        self.request_id: str | None = None

    def of_request(self, request_id: str) -> "PosthouseError":
        """Return the same error for one send."""
        error = type(self)(
            self.code,
            self.message,
            reason=self.reason,
            violations=self.violations,
            retry_after=self.retry_after,
        )
        error.request_id = request_id
        return error


class InvalidRequestError(PosthouseError):
    """A field is missing, malformed or out of bounds; `violations` names it."""


class NotFoundError(PosthouseError):
    """What the call names does not exist."""


class PreconditionError(PosthouseError):
    """The state of things forbids it: an opt-out, an idempotency key used for something else."""


class RateLimitedError(PosthouseError):
    """A rate limit is used up."""


class OverloadedError(PosthouseError):
    """A bounded queue of the server is full."""


class UnavailableError(PosthouseError):
    """The server, or what it needs, does not answer, or not in time."""


class UnauthenticatedError(PosthouseError):
    """The credential is missing, unknown, expired or revoked."""


class ForbiddenError(PosthouseError):
    """The credential lacks the scope that the call needs."""


class NotDeliveredError(Exception):
    """The message has come to an end that is not delivery: failed, undelivered or cancelled."""

    def __init__(self, message: message_pb2.Message) -> None:
        state = message_pb2.MessageState.Name(message.state).removeprefix("MESSAGE_STATE_").lower()
        super().__init__(f"message {message.id} is {state} {message.error_code}".rstrip())
        self.message = message


class WaitTimeoutError(TimeoutError):
    """The message was not delivered in time; it may still be. `message` is as it was last seen."""

    def __init__(self, message: message_pb2.Message) -> None:
        super().__init__(f"message {message.id} was not delivered in time")
        self.message = message


_TYPES: dict[grpc.StatusCode, type[PosthouseError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.FAILED_PRECONDITION: PreconditionError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: UnavailableError,
    # Never a cancel of the caller's own, which raises no RpcError here: a server that stops says it of what
    # it has not begun (grpc/grpc#41785).
    grpc.StatusCode.CANCELLED: UnavailableError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: ForbiddenError,
}
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def from_rpc_error(error: grpc.RpcError) -> PosthouseError:
    """Return the typed error of a failed call, of grpc or of grpc.aio."""
    call: grpc.Call = error  # type: ignore[assignment] # what every failed call is
    reason, violations, retry_after = call.code().name, [], None
    status = rpc_status.from_call(call)
    for detail in status.details if status is not None else ():
        info, bad, retry = (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.BadRequest(),
            error_details_pb2.RetryInfo(),
        )
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(bad):
            violations = [Violation(v.field, v.description) for v in bad.field_violations]
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToNanoseconds() / 1e9
    return _build(call.code(), call.details() or "", reason, tuple(violations), retry_after)


def from_item_error(item: message_service_pb2.ItemError) -> PosthouseError:
    """Return the typed error of one message of a batch."""
    return _build(
        _CODES.get(item.code, grpc.StatusCode.UNKNOWN),
        item.message,
        item.reason,
        tuple(Violation(v.field, v.description) for v in item.field_violations),
        item.retry_after_seconds or None,
    )


def _build(
    code: grpc.StatusCode,
    message: str,
    reason: str,
    violations: tuple[Violation, ...],
    retry_after: float | None,
) -> PosthouseError:
    kind = RateLimitedError if reason == "RATE_LIMITED" else _TYPES.get(code, PosthouseError)
    return kind(code, message, reason=reason, violations=violations, retry_after=retry_after)
