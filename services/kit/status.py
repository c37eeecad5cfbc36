"""The rich error model on the wire: typed errors to google.rpc.Status and back."""

import grpc
from google.protobuf import duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from posthouse.v1 import message_service_pb2 as message_pb
from services.kit.errors import PosthouseError, QuotaViolation, Violation

DOMAIN = "posthouse"

_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def to_status(error: PosthouseError) -> status_pb2.Status:
    """Return the rich status of an error: one ErrorInfo, and the other details where they fit."""
    status = status_pb2.Status(code=error.code.value[0], message=error.message)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN))
    if error.violations:
        bad_request = error_details_pb2.BadRequest()
        for violation in error.violations:
            bad_request.field_violations.add(field=violation.field, description=violation.description)
        status.details.add().Pack(bad_request)
    if error.quotas:
        failure = error_details_pb2.QuotaFailure()
        for quota in error.quotas:
            failure.violations.add(subject=quota.subject, description=quota.description)
        status.details.add().Pack(failure)
    if error.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after * 1e9))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def to_item_error(error: PosthouseError) -> message_pb.ItemError:
    """Return the error of one item of a batch."""
    return message_pb.ItemError(
        code=error.code.value[0],
        reason=error.reason,
        message=error.message,
        field_violations=[
            message_pb.FieldViolation(field=v.field, description=v.description) for v in error.violations
        ],
        retry_after_seconds=error.retry_after or 0.0,
    )


class RemoteError(PosthouseError):
    """An error another process answered with; its code is that process's."""

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        reason: str,
        violations: tuple[Violation, ...] = (),
        retry_after: float | None = None,
        quotas: tuple[QuotaViolation, ...] = (),
    ) -> None:
        super().__init__(
            message, reason=reason, violations=violations, retry_after=retry_after, quotas=quotas
        )
        self.code = code  # type: ignore[misc]


def from_item_error(item: message_pb.ItemError) -> RemoteError:
    """Return the typed error of a batch's item."""
    return RemoteError(
        _CODES.get(item.code, grpc.StatusCode.UNKNOWN),
        item.message,
        reason=item.reason,
        violations=tuple(Violation(v.field, v.description) for v in item.field_violations),
        retry_after=item.retry_after_seconds or None,
    )


def from_rpc_error(error: grpc.aio.AioRpcError) -> RemoteError:
    """Return the typed error behind a failed call, with its details if it has any."""
    reason, violations, quotas, retry_after = _default_reason(error.code()), [], [], None
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    for detail in status.details if status is not None else ():
        info, bad, quota, retry = (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.BadRequest(),
            error_details_pb2.QuotaFailure(),
            error_details_pb2.RetryInfo(),
        )
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(bad):
            violations = [Violation(v.field, v.description) for v in bad.field_violations]
        elif detail.Unpack(quota):
            quotas = [QuotaViolation(v.subject, v.description) for v in quota.violations]
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToNanoseconds() / 1e9
    return RemoteError(
        error.code(),
        error.details() or code_pb2.Code.Name(error.code().value[0]),
        reason=reason,
        violations=tuple(violations),
        retry_after=retry_after,
        quotas=tuple(quotas),
    )


def _default_reason(code: grpc.StatusCode) -> str:
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return "DEPENDENCY_UNAVAILABLE"
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return "OVERLOADED"
    return code.name
