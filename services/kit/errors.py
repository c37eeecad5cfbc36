"""The typed errors that domain code raises; `kit/status` maps them to the wire and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import grpc


@dataclass(frozen=True, slots=True)
class Violation:
    """One field at fault: its name as in the request, and what is wrong with it."""

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class QuotaViolation:
    """One limit that is used up: whose it is, and what it says."""

    subject: str
    description: str


class PosthouseError(Exception):
    """Base of all errors that callers see. The text is for people, the reason for programs."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    reason: str = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        violations: Sequence[Violation] = (),
        retry_after: float | None = None,
        quotas: Sequence[QuotaViolation] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or type(self).reason
        self.violations = tuple(violations)
        self.retry_after = retry_after
        self.quotas = tuple(quotas)


class InternalError(PosthouseError):
    """A fault of ours. What it was is in the log, where it happened, and for nobody else."""

    def __init__(self) -> None:
        super().__init__("internal error")


class InvalidRequestError(PosthouseError):
    """A field is missing, malformed or out of bounds."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "INVALID_FIELD"

    @classmethod
    def of(cls, violations: Sequence[Violation]) -> "InvalidRequestError":
        """Return the error whose text is that of its violations."""
        return cls("; ".join(f"{v.field}: {v.description}" for v in violations), violations=violations)

    @classmethod
    def field(cls, field: str, description: str) -> "InvalidRequestError":
        """Return the error of a single field."""
        return cls.of([Violation(field, description)])


class NotFoundError(PosthouseError):
    """What the call names does not exist."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "MESSAGE_NOT_FOUND"


class PreconditionError(PosthouseError):
    """The call is well-formed, but the state of things forbids it."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "ILLEGAL_STATE"


class OverloadedError(PosthouseError):
    """A bounded queue is used up."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "OVERLOADED"


class RateLimitedError(PosthouseError):
    """A rate of the caller, a sender or an address is used up."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "RATE_LIMITED"


class UnavailableError(PosthouseError):
    """A dependency does not answer."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "DEPENDENCY_UNAVAILABLE"


class UnauthenticatedError(PosthouseError):
    """No credential, or not a valid one."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"


class ForbiddenError(PosthouseError):
    """The caller is known, or the signature was checked, and the answer is no."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = "PERMISSION_DENIED"


class NotImplementedYetError(PosthouseError):
    """The call is part of the contract, but its work is not done yet."""

    code = grpc.StatusCode.UNIMPLEMENTED
    reason = "NOT_IMPLEMENTED"
