"""Errors to problems: one table, no leaks."""

import grpc
import httpx2
import pytest
from starlette.exceptions import HTTPException

from gateway import problems
from gateway.rpc import typed
from posthouse.v1 import message_service_pb2 as pb
from services.kit import errors
from services.kit.errors import PosthouseError, Violation
from services.kit.status import RemoteError
from tests.unit.gateway.fakes import Fakes

URL = "/api/v1/messages/m1"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidRequestError.field("message_id", "must be a UUID"), 400),
        (errors.UnauthenticatedError("who"), 401),
        (errors.ForbiddenError("no"), 403),
        (errors.NotFoundError("none"), 404),
        (errors.PreconditionError("sent already"), 409),
        (errors.PreconditionError("no", reason="OPTED_OUT"), 422),
        (errors.InvalidRequestError("no", reason="TOO_LARGE"), 413),
        (errors.OverloadedError("full"), 429),
        (errors.NotImplementedYetError("later"), 501),
        (errors.UnavailableError("away"), 503),
        (PosthouseError("secret"), 500),
        (ValueError("secret"), 500),
    ],
)
async def test_status_of_each_error(
    client: httpx2.AsyncClient, fakes: Fakes, error: Exception, status: int
) -> None:
    fakes.answers["GetMessage"] = error
    response = await client.get(URL)
    assert response.status_code == response.json()["status"] == status
    assert response.headers["content-type"] == "application/problem+json"
    assert ("retry-after" in response.headers) == (status in (429, 503))
    assert "secret" not in response.text


async def test_retry_info_becomes_retry_after(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["GetMessage"] = errors.OverloadedError("slow down", reason="RATE_LIMITED", retry_after=7.1)
    assert (await client.get(URL)).headers["retry-after"] == "8"


async def test_fields_of_other_routes_bear_their_json_names(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["ListMessages"] = errors.InvalidRequestError.field("state", "no such state")
    problem = (await client.get("/api/v1/messages")).json()
    assert problem["errors"] == [{"field": "status", "message": "no such state"}]


def rpc_error(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details, debug_error_string=""
    )


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (grpc.StatusCode.UNAVAILABLE, 503),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 503),
        (grpc.StatusCode.CANCELLED, 503),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
        (grpc.StatusCode.INTERNAL, 500),
        (grpc.StatusCode.UNKNOWN, 500),
    ],
)
def test_texts_of_the_transport_stay_inside(code: grpc.StatusCode, status: int) -> None:
    problem = problems.from_error(typed(rpc_error(code, "ipv4:127.0.0.1:50051: Connection refused")))
    assert problem.status == status
    assert "127.0.0.1" not in problem.detail


@pytest.mark.parametrize(
    ("field", "item", "expected"),
    [
        ("recipient", "", "to"),
        ("message.recipient", "", "to"),
        ("profile.channel", "", "type"),
        ("conversation.metadata", "", "metadata"),
        ("subscription.url", "", "url"),
        ("message", "", "message"),
        ("requests[3].sender", "", "messages[3].from"),
        ("requests", "", "messages"),
        ("recipient", "messages[3]", "messages[3].to"),
        ("requests[3].recipient", "messages[3]", "messages[3].to"),
        ("request_id", "", "Idempotency-Key"),
        ("request_id", "messages[0]", "messages[0].idempotency_key"),
        ("metadata.channel", "messages[0]", "messages[0].metadata.channel"),
        ("attachments[0].content_type", "", "attachments[0].content_type"),
        ("message_time", "messages[1]", "messages[1].message_at"),
    ],
)
def test_rest_field(field: str, item: str, expected: str) -> None:
    assert problems.rest_field(field, item=item) == expected


def test_detail_without_violations_is_the_error_text() -> None:
    error = RemoteError(grpc.StatusCode.NOT_FOUND, "no message m1", reason="MESSAGE_NOT_FOUND")
    problem = problems.from_error(error)
    assert (problem.detail, problem.errors) == ("no message m1", [])
    assert problem.members("/x", "r")["title"] == "Message not found"
    assert problem.members("/x", "r")["type"] == "urn:posthouse:problem:message-not-found"


def test_unlisted_http_errors_are_invalid_requests() -> None:
    assert problems.from_http(HTTPException(400, "why")) == problems.Problem(400, "INVALID_FIELD", "why")
    assert problems.from_http(HTTPException(413, "why")).errors == [Violation("body", "why")]


async def test_unknown_route_and_method(client: httpx2.AsyncClient) -> None:
    response = await client.get("/api/v1/nothing")
    assert (response.status_code, response.json()["reason"]) == (404, "NOT_FOUND")
    response = await client.delete("/api/v1/messages")
    assert (response.status_code, response.json()["reason"]) == (405, "METHOD_NOT_ALLOWED")
    assert response.headers["allow"] == "GET, HEAD"
    response = await client.put("/api/v1/conversations/x")
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD, PATCH")
    for method, path, allowed in (
        ("PUT", "/messages/send", "POST"),
        ("GET", "/messages/send", "POST"),
        ("POST", "/events", "GET"),
    ):
        response = await client.request(method, f"/api/v1{path}")
        assert (response.status_code, response.headers.get("allow")) == (405, allowed)
        assert response.json()["reason"] == "METHOD_NOT_ALLOWED"
    for path in ("/openapi.json", "/docs"):
        response = await client.post(f"/api/v1{path}")
        assert (response.status_code, response.headers.get("allow")) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/health", "/api/v1/docs", "/api/v1/openapi.json"])
async def test_head_is_answered_as_get(client: httpx2.AsyncClient, path: str) -> None:
    got, asked = await client.get(path), await client.head(path)
    assert (asked.status_code, asked.headers["content-type"]) == (200, got.headers["content-type"])
    assert asked.headers["content-length"] == got.headers["content-length"]


async def test_head_of_what_is_no_document_is_refused(client: httpx2.AsyncClient) -> None:
    for path, allowed in (("/messages/send", "POST"), ("/events", "GET")):
        response = await client.head(f"/api/v1{path}")
        assert (response.status_code, response.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize("path", ["/api/v1/messages/send", "/api/v1/messages/batch", "/sms/send"])
async def test_a_compressed_body_is_refused_as_such(client: httpx2.AsyncClient, path: str) -> None:
    for coding, status in (("gzip", 415), ("br", 415), ("identity", 400), ("Identity", 400)):
        response = await client.post(path, content=b"\x1f\x8b", headers={"content-encoding": coding})
        assert response.status_code == status
        fields = [error["field"] for error in response.json()["errors"]]
        assert fields == ["Content-Encoding" if status == 415 else "body"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("page_size=x", "page_size"),
        ("page_size=-1", "page_size"),
        ("page_size=99999999999999999999", "page_size"),
        ("type=fax", "type"),
        ("status=lost", "status"),
        ("direction=up", "direction"),
    ],
)
async def test_bad_queries(client: httpx2.AsyncClient, fakes: Fakes, query: str, field: str) -> None:
    fakes.answers["ListMessages"] = pb.ListMessagesResponse()
    response = await client.get(f"/api/v1/messages?{query}")
    assert (response.status_code, response.json()["reason"]) == (400, "INVALID_FIELD")
    assert [error["field"] for error in response.json()["errors"]] == [field]
    assert response.json()["errors"][0]["message"].startswith("must ")
