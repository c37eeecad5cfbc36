"""POST /api/v1/messages/send."""

import asyncio
from typing import Any

import httpx2
import pytest

from gateway import answers
from posthouse.v1 import message_pb2
from posthouse.v1 import message_service_pb2 as pb
from tests.unit.gateway.conftest import MAX_BODY, MAX_WEBHOOK, Gateway
from tests.unit.gateway.fakes import Fakes, accept_all, accepted
from tests.unit.gateway.samples import SEND

URL = "/api/v1/messages/send"


@pytest.fixture(autouse=True)
def _accept(fakes: Fakes) -> None:
    fakes.answers["SendMessages"] = accept_all


def refuse(fakes: Fakes, **error: Any) -> None:
    fakes.answers["SendMessages"] = pb.SendMessagesResponse(
        results=[pb.SendResult(error=pb.ItemError(**error))]
    )


async def test_accepts(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    response = await client.post(
        URL, json=SEND, headers={"Idempotency-Key": "k1", "X-Request-ID": "r1", "Authorization": "Bearer t"}
    )
    assert response.status_code == 202
    assert response.headers["x-request-id"] == "r1"
    assert "idempotent-replayed" not in response.headers
    answers.Accepted.model_validate(response.json())
    assert response.json() == {
        "id": "id-hello-0",
        "conversation_id": "conversation",
        "status": "pending",
        "type": "sms",
        "from": "+15551234567",
        "to": "+15559876543",
        "segments": 1,
        "encoding": "gsm7",
        "created_at": "2026-11-22T01:02:03.500000Z",
        "send_at": None,
    }
    seen = fakes.only("SendMessages")
    assert seen.request.requests[0] == pb.SendMessageRequest(
        sender="+15551234567", recipient="+15559876543", body="hello", request_id="k1"
    )
    assert seen.metadata["x-request-id"] == "r1"
    assert seen.metadata["authorization"] == "Bearer t"


async def test_passes_every_field_on(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    body = {
        **SEND,
        "type": "email",
        "subject": "s",
        "html": "<p>",
        "attachments": [
            {"url": "https://e.com/a"},
            {"content": "AP8=", "filename": "a.bin", "content_type": "x/y"},
        ],
        "metadata": {"a": "b"},
        "send_at": "2027-01-15T10:00:00+02:00",
        "expires_at": "2027-01-15t09:00:00.5z",
        "priority": "high",
        "fail_fast": True,
        "transactional": True,
        "reply_to": "desk@in.example.com",
    }
    assert (await client.post(URL, json=body)).status_code == 202
    request = fakes.only("SendMessages").request.requests[0]
    assert request.channel == message_pb2.CHANNEL_EMAIL
    assert (request.subject, request.html, dict(request.metadata)) == ("s", "<p>", {"a": "b"})
    assert request.attachments[0] == message_pb2.Attachment(url="https://e.com/a")
    assert request.attachments[1].content == b"\x00\xff"
    assert request.send_time.ToJsonString() == "2027-01-15T08:00:00Z"
    assert request.expire_time.ToJsonString() == "2027-01-15T09:00:00.500Z"
    assert request.priority == message_pb2.PRIORITY_HIGH
    assert request.fail_fast
    assert request.transactional
    assert request.reply_to == "desk@in.example.com"


async def test_null_is_the_same_as_absent(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    nulls = dict.fromkeys(["type", "subject", "html", "attachments", "send_at", "metadata", "priority"])
    assert (await client.post(URL, json={**SEND, **nulls})).status_code == 202
    assert fakes.only("SendMessages").request.requests[0] == pb.SendMessageRequest(
        sender=SEND["from"], recipient=SEND["to"], body=SEND["body"]
    )


async def test_leaves_the_rules_to_the_service(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    response = await client.post(URL, json={"from": "", "to": "nobody", "type": "mms", "attachments": []})
    assert response.status_code == 202
    assert fakes.only("SendMessages").request.requests[0].channel == message_pb2.CHANNEL_MMS


async def test_tells_a_replay(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    async def replay(request: pb.SendMessagesRequest) -> pb.SendMessagesResponse:
        result = pb.SendResult(message=accepted(request.requests[0], replayed=True))
        return pb.SendMessagesResponse(results=[result])

    fakes.answers["SendMessages"] = replay
    response = await client.post(URL, json=SEND)
    assert response.headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize(
    ("body", "field", "text"),
    [
        ({"from": "x"}, "to", "is required"),
        ({**SEND, "to": 5}, "to", "must be a string"),
        ({**SEND, "type": "fax"}, "type", "must be one of sms, mms, email, voice"),
        ({**SEND, "colour": "red"}, "colour", "is not a field of this request"),
        ({**SEND, "sender": "x"}, "sender", "is not a field of this request"),
        ({**SEND, "attachments": {}}, "attachments", "must be a list"),
        ({**SEND, "attachments": ["x"]}, "attachments[0]", "must be a JSON object"),
        ({**SEND, "attachments": [{"content": "!"}]}, "attachments[0].content", "is not valid base64"),
        ({**SEND, "attachments": [{"content": 1}]}, "attachments[0].content", "must be a valid bytes"),
        ({**SEND, "metadata": {"a": 1}}, "metadata.a", "must be a string"),
        ({**SEND, "metadata": []}, "metadata", "must be a JSON object"),
        ({**SEND, "send_at": "tomorrow"}, "send_at", "must be an RFC 3339 time with an offset"),
        ({**SEND, "send_at": "2027-01-15T10:00:00"}, "send_at", "must be an RFC 3339 time with an offset"),
        ({**SEND, "send_at": 1800000000}, "send_at", "must be an RFC 3339 time with an offset"),
        ({**SEND, "send_at": "2027-02-30T10:00:00Z"}, "send_at", "is not a time that exists"),
        ({**SEND, "send_at": "0001-01-01T00:00:00+23:59"}, "send_at", "is not a time that exists"),
        ({**SEND, "fail_fast": "yes"}, "fail_fast", "must be a valid boolean"),
        ([SEND], "body", "must be a JSON object"),
        ("text", "body", "must be a JSON object"),
    ],
)
async def test_names_the_field_at_fault(
    client: httpx2.AsyncClient, fakes: Fakes, body: Any, field: str, text: str
) -> None:
    response = await client.post(URL, json=body)
    problem = response.json()
    answers.Problem.model_validate(problem)
    assert response.status_code == problem["status"] == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["reason"] == "INVALID_FIELD"
    assert problem["instance"] == URL
    assert problem["request_id"] == response.headers["x-request-id"]
    assert [error["field"] for error in problem["errors"]] == [field]
    assert problem["errors"][0]["message"].startswith(text)
    assert problem["detail"].startswith(f"{field}: {text}")
    assert not fakes.seen


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b'{"from": "\\ud800"}', b"[" * 5000, b"nope", b"{} {}"]
)
async def test_broken_json(client: httpx2.AsyncClient, body: bytes) -> None:
    for path in (URL, "/api/v1/messages/preview"):
        response = await client.post(path, content=body, headers={"content-type": "application/json"})
        problem = response.json()
        assert (response.status_code, problem["reason"]) == (400, "INVALID_FIELD"), path
        assert problem["errors"][0]["field"] == "body"
        if body:
            assert problem["errors"][0]["message"].startswith("is not valid JSON: ")
        assert "Traceback" not in response.text


async def test_many_faults_are_cut_short(client: httpx2.AsyncClient) -> None:
    body = {**SEND, **{f"{number}-{'x' * 400}": 1 for number in range(100)}}
    errors = (await client.post(URL, json=body)).json()["errors"]
    assert len(errors) == 50
    assert max(len(error["field"]) for error in errors) <= 200


async def test_content_type(client: httpx2.AsyncClient) -> None:
    for kind, status in [
        ("text/plain", 415),
        ("application/vnd.me+json", 202),
        ("application/json; charset=utf-8", 202),
    ]:
        response = await client.post(
            URL, content=b'{"from": "+15551234567", "to": "+15559876543"}', headers={"content-type": kind}
        )
        assert response.status_code == status, kind
    assert (await client.post(URL, content=b'{"from": "a", "to": "b"}')).status_code == 202


@pytest.mark.parametrize(
    ("headers", "status", "field"),
    [
        ({"idempotency-key": "  "}, 400, "Idempotency-Key"),
        ([("idempotency-key", "a"), ("Idempotency-Key", "a")], 400, "Idempotency-Key"),
        ({"authorization": b"Bearer \xff"}, 401, None),
    ],
)
async def test_bad_headers(client: httpx2.AsyncClient, headers: Any, status: int, field: str | None) -> None:
    response = await client.post(URL, json=SEND, headers=headers)
    assert response.status_code == status
    assert [error["field"] for error in response.json()["errors"]] == ([field] if field else [])


async def test_unusable_request_id_is_replaced(client: httpx2.AsyncClient) -> None:
    for given in ("x" * 129, "a b", ""):
        response = await client.post(URL, json=SEND, headers={"x-request-id": given})
        assert response.headers["x-request-id"] != given
        assert len(response.headers["x-request-id"]) == 36


async def test_too_large_is_refused_before_it_is_read(gateway: Gateway) -> None:
    async def endless() -> Any:
        raise AssertionError("must not be read")
        yield b""

    response = await gateway.client.post(
        URL,
        content=endless(),
        headers={"content-length": str(10_000_000), "content-type": "application/json"},
    )
    assert (response.status_code, response.json()["reason"]) == (413, "TOO_LARGE")
    assert response.json()["errors"][0]["field"] == "body"


@pytest.mark.parametrize("path", [URL, "/api/v1/messages/batch", "/api/v1/webhooks/simulator"])
async def test_too_large_in_pieces(client: httpx2.AsyncClient, path: str) -> None:
    limit = MAX_WEBHOOK if "webhooks" in path else MAX_BODY
    read = 0

    async def pieces() -> Any:
        nonlocal read
        for _ in range(1000):
            read += 1
            yield b" " * 8192

    response = await client.post(path, content=pieces(), headers={"content-type": "application/json"})
    assert response.status_code == 413
    assert read <= limit // 8192 + 2


async def test_body_in_pieces(client: httpx2.AsyncClient) -> None:
    async def pieces() -> Any:
        yield b'{"from": "+15551234567", '
        yield b'"to": "+15559876543"}'

    assert (await client.post(URL, content=pieces())).status_code == 202


async def test_client_that_leaves_while_sending(gateway: Gateway) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": URL, "headers": [], "query_string": b""}
    await gateway.app(scope, receive, send)
    assert not sent


async def test_violations_bear_their_json_names(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    names = {
        "recipient": "to",
        "sender": "from",
        "channel": "type",
        "send_time": "send_at",
        "expire_time": "expires_at",
        "request_id": "Idempotency-Key",
        "attachments[0].url": "attachments[0].url",
        "metadata.sender": "metadata.sender",
    }
    refuse(
        fakes,
        code=3,
        reason="INVALID_FIELD",
        message="recipient: bad",
        field_violations=[pb.FieldViolation(field=name, description="bad") for name in names],
    )
    problem = (await client.post(URL, json=SEND)).json()
    assert [error["field"] for error in problem["errors"]] == list(names.values())
    assert problem["detail"].startswith("to: bad; from: bad")


@pytest.mark.parametrize(
    ("code", "reason", "status"),
    [
        (3, "INVALID_FIELD", 400),
        (9, "IDEMPOTENCY_KEY_REUSED", 422),
        (9, "OPTED_OUT", 422),
        (9, "ILLEGAL_STATE", 409),
        (13, "INTERNAL", 500),
    ],
)
async def test_item_errors(
    client: httpx2.AsyncClient, fakes: Fakes, code: int, reason: str, status: int
) -> None:
    refuse(fakes, code=code, reason=reason, message="why")
    response = await client.post(URL, json=SEND)
    assert (response.status_code, response.json()["reason"]) == (status, reason)
    assert "retry-after" not in response.headers
    assert ("why" in response.text) == (status != 500)


@pytest.mark.parametrize(
    ("code", "reason", "status"), [(8, "RATE_LIMITED", 429), (14, "ROUTE_UNAVAILABLE", 503)]
)
async def test_item_errors_say_when_to_come_back(
    client: httpx2.AsyncClient, fakes: Fakes, code: int, reason: str, status: int
) -> None:
    refuse(fakes, code=code, reason=reason, message="why", retry_after_seconds=2.2)
    response = await client.post(URL, json=SEND)
    assert (response.status_code, response.json()["reason"]) == (status, reason)
    assert response.headers["retry-after"] == "3"


async def test_concurrent_sends_get_their_own_answers(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    responses = await asyncio.gather(*(client.post(URL, json={**SEND, "body": f"n{n}"}) for n in range(200)))
    assert [response.json()["id"] for response in responses] == [f"id-n{n}-0" for n in range(200)]
    assert len(fakes.seen) < 200
