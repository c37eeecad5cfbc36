"""What the query of a URL may have: each route's own parameters, once."""

from typing import Any

import httpx2
import pytest

from gateway import queries
from posthouse.v1 import conversation_service_pb2 as conversation_pb
from posthouse.v1 import message_service_pb2 as pb
from tests.unit.gateway.fakes import Fakes, ingested

# What probes and providers call, who put what they like.
TOLERANT = {"/health", "/ready", "/metrics"}
WEBHOOK = "/webhook"


async def _operations(client: httpx2.AsyncClient) -> list[tuple[str, str, dict[str, Any]]]:
    document = (await client.get("/api/v1/openapi.json")).json()
    return [
        (method.upper(), path, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]


async def test_every_route_refuses_parameters_it_does_not_have(
    client: httpx2.AsyncClient, fakes: Fakes
) -> None:
    for method, path, _ in await _operations(client):
        if path in TOLERANT or WEBHOOK in path:
            continue
        response = await client.request(method, f"{path}?statsu=failed&x")
        assert response.status_code == 400, path
        assert response.json()["reason"] == "INVALID_FIELD"
        assert response.json()["errors"] == [
            {"field": name, "message": "is not a parameter of this request"} for name in ("statsu", "x")
        ]
    assert not fakes.seen


async def test_every_route_knows_the_parameters_it_documents(client: httpx2.AsyncClient) -> None:
    for method, path, operation in await _operations(client):
        names = [each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"]
        if names:
            response = await client.request(method, path, params=dict.fromkeys(names, ""))
            errors = response.json().get("errors", [])
            assert not [each for each in errors if "parameter" in each["message"]], path


async def test_who_probes_and_who_calls_back_may_put_a_query(
    client: httpx2.AsyncClient, fakes: Fakes
) -> None:
    fakes.answers["IngestWebhooks"] = ingested()
    for path in TOLERANT - {"/ready"}:
        assert (await client.get(f"{path}?probe=1")).status_code == 200
    for path in ("/api/v1/webhooks/sendgrid", "/webhook/twilio/status"):
        assert (await client.post(f"{path}?any=1&any=2")).status_code == 200


@pytest.mark.parametrize("path", ["/api/v1/messages", "/api/v1/conversations/c1/messages"])
async def test_a_parameter_given_twice_is_refused(client: httpx2.AsyncClient, path: str) -> None:
    response = await client.get(f"{path}?page_size=1&page_size=2&page_size=3")
    assert response.status_code == 400
    assert response.json()["errors"] == [{"field": "page_size", "message": "must be given once"}]


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        (b"", []),
        (b"&&", []),
        (b"a=1", []),
        (b"sender=1", ["sender"]),
        (b"A=1&%61=1", ["A"]),
        (b"=1", [""]),
        (b"%ff=1", ["\ufffd"]),
        (b"&".join(b"x%d" % number for number in range(9000)), [f"x{number}" for number in range(50)]),
        (b"y" * 9000, ["y" * 200]),
    ],
)
def test_queries(query: bytes, fields: list[str]) -> None:
    problem = queries.refusal(query, {"a"})
    assert [error.field for error in problem.errors] == fields if problem else not fields


@pytest.mark.parametrize(
    ("written", "meant"),
    [("+3545510000", "+3545510000"), ("%2B3545510000", "+3545510000"), ("(555) 987-6543", "(555) 987-6543")],
)
async def test_a_plus_of_a_participant(
    client: httpx2.AsyncClient, fakes: Fakes, written: str, meant: str
) -> None:
    fakes.answers["ListConversations"] = conversation_pb.ListConversationsResponse()
    await client.get(f"/api/v1/conversations?participant={written}")
    assert fakes.only("ListConversations").request.participant == meant


async def test_a_send_with_a_query_sends_nothing(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    body = {"from": "+15551234567", "to": "+15559876543", "body": "hi"}
    response = await client.post("/api/v1/messages/send?dry_run=true", json=body)
    assert (response.status_code, response.json()["detail"]) == (
        400,
        "dry_run: is not a parameter of this request",
    )
    assert not fakes.seen
    fakes.answers["PreviewMessage"] = pb.PreviewMessageResponse()
    assert (await client.post("/api/v1/messages/preview", json=body)).status_code == 200
