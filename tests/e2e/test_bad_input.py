"""Bad input gets a clear error that names the field, and leaves nothing behind."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import grpc
import httpx2
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from posthouse.v1 import message_pb2 as message_pb
from posthouse.v1 import message_service_pb2 as pb
from posthouse.v1 import message_service_pb2_grpc as pb_grpc
from tests.e2e.stack import E2eStack

pytestmark = pytest.mark.integration

_SEND = "/api/v1/messages/send"
_GOOD = {"from": "+15551234567", "to": "+15559870003", "body": "Hello"}
_MB = 1 << 20
_URL = "https://example.com/cat.jpg"

# What no answer may contain: a stack trace, or where this is installed.
_LEAKS = ("Traceback", 'File "', ".py", "site-packages", sys.prefix, "psycopg", "/tmp/", "/home/")  # noqa: S108


def _without(*fields: str, **changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**_GOOD, **changes}.items() if name not in fields}


# id -> JSON body, status, the field named
_REST: dict[str, tuple[Any, int, str]] = {
    "no recipient": (_without("to"), 400, "to"),
    "empty recipient": (_without(to=""), 400, "to"),
    "recipient is neither phone nor e-mail": (_without(to="the corner shop"), 400, "to"),
    "recipient is too short": (_without(to="+1555"), 400, "to"),
    "recipient is half an address": (_without(to="contact@"), 400, "to"),
    "no sender": (_without("from"), 400, "from"),
    "sender is neither phone nor e-mail": (_without(**{"from": "@"}), 400, "from"),
    "no body": (_without("body"), 400, "body"),
    "empty body": (_without(body=""), 400, "body"),
    "body is no text": (_without(body=17), 400, "body"),
    "NUL in the body": (_without(body="a\0b"), 400, "body"),
    "SMS over the limit": (_without(body="x" * 1601), 400, "body"),
    "MMS over the limit": (_without(body="x" * 1601, attachments=[{"url": _URL}]), 400, "body"),
    "e-mail over the limit": (
        _without(**{"from": "a@example.com"}, to="b@example.org", body="x" * (_MB + 1)),
        400,
        "body",
    ),
    "MMS with an empty list": (_without(type="mms", attachments=[]), 400, "attachments"),
    "MMS without a list": (_without(type="mms"), 400, "attachments"),
    "attachment by ftp": (_without(attachments=[{"url": "ftp://example.com/a"}]), 400, "attachments[0].url"),
    "attachment by file": (_without(attachments=[{"url": "file:///etc/passwd"}]), 400, "attachments[0].url"),
    "second attachment without a host": (
        _without(attachments=[{"url": _URL}, {"url": "http://"}]),
        400,
        "attachments[1].url",
    ),
    "eleven attachments": (_without(attachments=[{"url": _URL}] * 11), 400, "attachments"),
    "unknown type": (_without(type="fax"), 400, "type"),
    "type does not fit the recipient": (_without(type="email"), 400, "type"),
    "unknown field": (_without(boddy="Hello"), 400, "boddy"),
    "send_at is no time": (_without(send_at="tomorrow"), 400, "send_at"),
    "send_at is too far ahead": (_without(send_at="2999-01-01T00:00:00Z"), 400, "send_at"),
    "expired already": (_without(expires_at="2001-01-01T00:00:00Z"), 400, "expires_at"),
    "metadata is no object": (_without(metadata=["a"]), 400, "metadata"),
    "a list": ([_GOOD], 400, "body"),
    "body of 10 MB": (_without(body="x" * (10 * _MB)), 413, "body"),
}

_RAW: dict[str, tuple[bytes, str, int, str]] = {
    "broken JSON": (b'{"from": "+15551234567", "to": ', "application/json", 400, "body"),
    "no JSON at all": (b"hello", "application/json", 400, "body"),
    "no body": (b"", "application/json", 400, "body"),
    "not UTF-8": (b'{"body": "\xff"}', "application/json", 400, "body"),
    "a form": (b"to=%2B15559870003", "application/x-www-form-urlencoded", 415, "Content-Type"),
}


# Filled from events in the background, of earlier tests' messages as well: whenever it comes to that.
_LEARNED = {
    *("message_search", "search_stale", "search_progress"),
    *("contacts", "tenant_numbers", "conversation_events"),
}


@pytest.fixture(autouse=True)
def _nothing_is_written(stack: E2eStack) -> Iterator[None]:
    stack.await_rest()
    before = stack.counts()
    assert before.keys() >= _LEARNED
    yield
    changed = stack.counts().items() ^ before.items()
    assert not [name for name, _ in changed if name not in _LEARNED]


def _check_problem(response: httpx2.Response, status: int, field: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert field in [error["field"] for error in problem["errors"]], problem
    assert all(error["message"] for error in problem["errors"])
    assert problem["request_id"] == response.headers["x-request-id"]
    _check_no_leak(response.text)


def _check_no_leak(text: str) -> None:
    assert not [leak for leak in _LEAKS if leak in text], text
    # Nor the whole of what was sent.
    assert len(text) < 4000


@pytest.mark.parametrize("case", _REST)
def test_rest_refuses(stack: E2eStack, case: str) -> None:
    body, status, field = _REST[case]
    _check_problem(stack.http.post(_SEND, json=body), status, field)


@pytest.mark.parametrize("case", _RAW)
def test_rest_refuses_what_is_no_json(stack: E2eStack, case: str) -> None:
    content, kind, status, field = _RAW[case]
    _check_problem(stack.http.post(_SEND, content=content, headers={"Content-Type": kind}), status, field)


def test_rest_refuses_10_mb_that_do_not_announce_themselves(stack: E2eStack) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"from": "+15551234567", "to": "+15559870003", "body": "'
        for _ in range(160):
            yield b"x" * 65536
        yield b'"}'

    response = stack.http.post(_SEND, content=pieces(), headers={"Content-Type": "application/json"})
    _check_problem(response, 413, "body")


def test_a_batch_of_bad_items_names_each_ones_field(stack: E2eStack) -> None:
    bad = {
        name: body for name, (body, status, _) in _REST.items() if status == 400 and isinstance(body, dict)
    }
    response = stack.http.post("/api/v1/messages/batch", json={"messages": list(bad.values())})
    assert response.status_code == 207
    results = response.json()["results"]
    assert [result["status"] for result in results] == [400] * len(bad)
    for position, (name, result) in enumerate(zip(bad, results, strict=True)):
        fields = [error["field"] for error in result["error"]["errors"]]
        assert f"messages[{position}].{_REST[name][2]}" in fields
    assert "Traceback" not in response.text


def test_a_batch_of_none_or_too_many_is_refused(stack: E2eStack) -> None:
    for items in ([], [_GOOD] * 1001):
        _check_problem(stack.http.post("/api/v1/messages/batch", json={"messages": items}), 400, "messages")


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/api/v1/messages/nonsense", 400, "INVALID_FIELD"),
        ("/api/v1/messages/01890000-0000-7000-8000-000000000000", 404, "MESSAGE_NOT_FOUND"),
        ("/api/v1/conversations/01890000-0000-7000-8000-000000000000", 404, "CONVERSATION_NOT_FOUND"),
        ("/api/v1/messages?status=lost", 400, "INVALID_FIELD"),
        ("/api/v1/messages?page_token=made-up", 400, "INVALID_PAGE_TOKEN"),
        ("/api/v1/nothing", 404, "NOT_FOUND"),
    ],
)
def test_reads_refuse(stack: E2eStack, path: str, status: int, reason: str) -> None:
    response = stack.http.get(path)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["reason"] == reason
    _check_no_leak(response.text)


_PROTO_NAMES = {"from": "sender", "to": "recipient", "type": "channel"}
_ATTACHMENT = message_pb.Attachment(url=_URL)


def _request(**changes: Any) -> pb.SendMessageRequest:
    return pb.SendMessageRequest(
        **{"sender": "+15551234567", "recipient": "+15559870003", "body": "Hello", **changes}
    )


_GRPC: dict[str, tuple[pb.SendMessageRequest, str]] = {
    "no recipient": (_request(recipient=""), "recipient"),
    "recipient is neither phone nor e-mail": (_request(recipient="the corner shop"), "recipient"),
    "no sender": (_request(sender=""), "sender"),
    "empty body": (_request(body=""), "body"),
    "SMS over the limit": (_request(body="x" * 1601), "body"),
    "body of 10 MB": (_request(body="x" * (10 * _MB)), "body"),
    "e-mail of 10 MB": (
        _request(sender="a@example.com", recipient="b@example.org", body="x" * (10 * _MB)),
        "body",
    ),
    "MMS with an empty list": (_request(channel=message_pb.CHANNEL_MMS), "attachments"),
    "attachment by ftp": (
        _request(attachments=[message_pb.Attachment(url="ftp://example.com/a")]),
        "attachments[0].url",
    ),
    "eleven attachments": (_request(attachments=[_ATTACHMENT] * 11), "attachments"),
    "unknown channel": (_request(channel=99), "channel"),
    "unknown priority": (_request(priority=99), "priority"),
    "channel does not fit": (_request(channel=message_pb.CHANNEL_EMAIL), "channel"),
    "NUL in the body": (_request(body="a\0b"), "body"),
    "key with a space": (_request(request_id="a b"), "request_id"),
}


def _check_status(error: grpc.RpcError, field: str) -> None:
    assert isinstance(error, grpc.Call)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    status = rpc_status.from_call(error)
    assert status is not None
    found: dict[str, Any] = {}
    for detail in status.details:
        for kind in (error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()):
            if detail.Unpack(kind):
                found[kind.DESCRIPTOR.name] = kind
    assert (found["ErrorInfo"].reason, found["ErrorInfo"].domain) == ("INVALID_FIELD", "posthouse")
    assert field in [violation.field for violation in found["BadRequest"].field_violations]
    _check_no_leak(status.message + json.dumps([str(detail) for detail in found.values()]))


@pytest.mark.parametrize("case", _GRPC)
def test_grpc_refuses(stack: E2eStack, case: str) -> None:
    request, field = _GRPC[case]
    with stack.channel() as channel:
        stub = pb_grpc.MessageServiceStub(channel)
        with pytest.raises(grpc.RpcError) as raised:
            stub.SendMessage(request, timeout=60)
        _check_status(raised.value, field)
        (result,) = stub.SendMessages(pb.SendMessagesRequest(requests=[request]), timeout=60).results
    assert (result.error.code, result.error.reason) == (3, "INVALID_FIELD")
    assert field in [violation.field for violation in result.error.field_violations]


def test_grpc_refuses_an_empty_batch(stack: E2eStack) -> None:
    with stack.channel() as channel, pytest.raises(grpc.RpcError) as raised:
        pb_grpc.MessageServiceStub(channel).SendMessages(pb.SendMessagesRequest(), timeout=60)
    _check_status(raised.value, "requests")
