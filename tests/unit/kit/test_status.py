"""Typed errors survive the wire, alone and in a batch."""

import inspect

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from posthouse.v1 import error_reason_pb2
from posthouse.v1.message_service_pb2 import ItemError
from services.kit import errors
from services.kit.errors import InternalError, InvalidRequestError, OverloadedError, PosthouseError, Violation
from services.kit.status import DOMAIN, RemoteError, from_item_error, from_rpc_error, to_item_error, to_status

EVERY_KIND = [
    kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, PosthouseError)
]
VIOLATIONS = [Violation("sender", "must not be empty"), Violation("attachments[0].url", "is not a valid URL")]


def failed_call(
    code: grpc.StatusCode, trailing: grpc.aio.Metadata, details: str | None
) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details, None)


def over_the_wire(error: PosthouseError) -> RemoteError:
    status = rpc_status.to_status(to_status(error))
    return from_rpc_error(
        failed_call(status.code, grpc.aio.Metadata(*status.trailing_metadata), status.details)
    )


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_code_reason_and_text_come_back(kind: type[PosthouseError]) -> None:
    # A fault of ours says nothing of itself.
    text = "internal error" if kind is InternalError else "what is wrong"
    error = InternalError() if kind is InternalError else kind(text)
    for remote in (over_the_wire(error), from_item_error(to_item_error(error))):
        assert (remote.code, remote.reason, remote.message) == (kind.code, kind.reason, text)
        assert (remote.violations, remote.retry_after) == ((), None)


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_every_reason_is_in_the_contract(kind: type[PosthouseError]) -> None:
    assert f"ERROR_REASON_{kind.reason}" in set(error_reason_pb2.ErrorReason.keys())


def test_violations_come_back_in_order() -> None:
    error = InvalidRequestError.of(VIOLATIONS)
    assert error.message == "sender: must not be empty; attachments[0].url: is not a valid URL"
    assert over_the_wire(error).violations == tuple(VIOLATIONS)
    assert from_item_error(to_item_error(error)).violations == tuple(VIOLATIONS)


def test_the_time_to_retry_comes_back() -> None:
    error = OverloadedError("busy", retry_after=1.5, reason="RATE_LIMITED")
    for remote in (over_the_wire(error), from_item_error(to_item_error(error))):
        assert (remote.retry_after, remote.reason) == (1.5, "RATE_LIMITED")


def test_a_status_has_exactly_one_error_info() -> None:
    status = to_status(InvalidRequestError.of(VIOLATIONS))
    infos = [detail for detail in status.details if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR)]
    info = error_details_pb2.ErrorInfo()
    assert len(infos) == 1
    assert infos[0].Unpack(info)
    assert (info.reason, info.domain) == ("INVALID_FIELD", DOMAIN)
    assert len(status.details) == 2


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, "DEPENDENCY_UNAVAILABLE"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "DEPENDENCY_UNAVAILABLE"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED"),
        (grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED"),
    ],
)
def test_a_bare_failure_still_has_a_reason_and_a_text(code: grpc.StatusCode, reason: str) -> None:
    remote = from_rpc_error(failed_call(code, grpc.aio.Metadata(), None))
    assert (remote.code, remote.reason, remote.message) == (code, reason, code.name)


def test_an_unknown_code_of_an_item_is_unknown() -> None:
    assert from_item_error(ItemError(code=99)).code is grpc.StatusCode.UNKNOWN


def test_one_field_at_fault() -> None:
    error = InvalidRequestError.field("body", "must not be empty")
    assert error.violations == (Violation("body", "must not be empty"),)
    assert str(error) == "body: must not be empty"
