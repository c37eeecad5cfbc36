"""Routes under /api/v1/messages, but the hot send."""

from typing import Any, get_args

import httpx2
import pytest

from gateway import answers, schemas
from posthouse.v1 import dispatch_service_pb2 as dispatch_pb
from posthouse.v1 import message_pb2
from posthouse.v1 import message_service_pb2 as pb
from services.kit import enum_names
from tests.unit.gateway import samples
from tests.unit.gateway.fakes import Fakes, accept_all, accepted
from tests.unit.gateway.samples import SEND

BASE = "/api/v1/messages"


def test_words_are_those_of_the_contract() -> None:
    for literal, names in [
        (schemas.ChannelWord, enum_names.CHANNEL),
        (schemas.StateWord, enum_names.STATE),
        (schemas.DirectionWord, enum_names.DIRECTION),
        (schemas.PriorityWord, enum_names.PRIORITY),
        (schemas.FamilyWord, enum_names.FAMILY),
    ]:
        assert get_args(literal) == names.words


async def test_batch_answers_each_on_its_own(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    async def answer(request: pb.SendMessagesRequest) -> pb.SendMessagesResponse:
        first, second, third = request.requests
        return pb.SendMessagesResponse(
            results=[
                pb.SendResult(message=accepted(first)),
                pb.SendResult(
                    error=pb.ItemError(
                        code=3,
                        reason="INVALID_FIELD",
                        message="recipient: bad",
                        field_violations=[pb.FieldViolation(field="recipient", description=second.recipient)],
                    )
                ),
                pb.SendResult(message=accepted(third, replayed=True)),
            ]
        )

    fakes.answers["SendMessages"] = answer
    items = [SEND, {"from": "x"}, {**SEND, "to": "bad"}, SEND, "text"]
    response = await client.post(f"{BASE}/batch", json={"messages": items})
    assert response.status_code == 207
    answers.BatchResults.model_validate(response.json())
    results = response.json()["results"]
    assert [result["status"] for result in results] == [202, 400, 400, 202, 400]
    assert [result.get("replayed") for result in results] == [False, None, None, True, None]
    assert results[0]["message"]["to"] == "+15559876543"
    assert results[1]["error"]["errors"] == [{"field": "messages[1].to", "message": "is required"}]
    assert results[2]["error"]["errors"] == [{"field": "messages[2].to", "message": "bad"}]
    assert results[4]["error"]["errors"] == [{"field": "messages[4]", "message": "must be a JSON object"}]


async def test_batch_without_a_good_item_calls_nobody(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    response = await client.post(f"{BASE}/batch", json={"messages": [{}]})
    assert response.status_code == 207
    assert not fakes.seen


async def test_batch_keys(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["SendMessages"] = accept_all
    items = [SEND, {**SEND, "idempotency_key": "own"}, SEND]
    await client.post(f"{BASE}/batch", json={"messages": items})
    await client.post(f"{BASE}/batch", json={"messages": items}, headers={"Idempotency-Key": "all"})
    without, keyed = ([each.request_id for each in seen.request.requests] for seen in fakes.seen)
    assert without == ["", "own", ""]
    assert keyed == ["all#0", "own", "all#2"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [SEND] * 1001}, "messages"),
        ({"messages": SEND}, "messages"),
        ({"messages": [SEND], "more": 1}, "more"),
        ([], "body"),
    ],
)
async def test_bad_batches(client: httpx2.AsyncClient, fakes: Fakes, body: Any, field: str) -> None:
    for path in ("batch", "receive"):
        response = await client.post(f"{BASE}/{path}", json=body)
        assert response.status_code == 400
        assert [error["field"] for error in response.json()["errors"]] == [field]
    assert not fakes.seen


async def test_batch_of_nobody_home(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["SendMessages"] = RuntimeError("secret")
    response = await client.post(f"{BASE}/batch", json={"messages": [SEND]})
    assert response.status_code == 500
    assert "secret" not in response.text


async def test_preview(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["PreviewMessage"] = pb.PreviewMessageResponse(
        acceptable=False,
        refusals=[
            pb.ItemError(
                code=3,
                reason="INVALID_FIELD",
                message="m",
                field_violations=[pb.FieldViolation(field="recipient", description="bad")],
            )
        ],
        channel=message_pb2.CHANNEL_SMS,
        segment_encoding=message_pb2.SEGMENT_ENCODING_UCS2,
        segment_count=2,
        ucs2_characters=["€"],
        route=["simulator"],
        rate_limit=pb.RateLimitVerdict(allowed=True, limit=100, remaining=99, reset_seconds=1.5),
    )
    response = await client.post(f"{BASE}/preview", json=SEND)
    answers.Preview.model_validate(response.json())
    assert response.json()["refusals"][0]["errors"] == [{"field": "to", "message": "bad"}]
    assert response.json()["encoding"] == "ucs2"
    assert fakes.only("PreviewMessage").request.message.recipient == "+15559876543"
    fakes.answers["PreviewMessage"] = pb.PreviewMessageResponse(acceptable=True)
    assert (await client.post(f"{BASE}/preview", json=SEND)).json()["rate_limit"] is None


async def test_preview_of_a_bad_shape(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    response = await client.post(f"{BASE}/preview", json={**SEND, "type": "fax"})
    assert [error["field"] for error in response.json()["errors"]] == ["type"]
    assert not fakes.seen


async def test_preview_of_something_else_than_json(client: httpx2.AsyncClient) -> None:
    response = await client.post(f"{BASE}/preview", content=b"a=b", headers={"content-type": "text/plain"})
    assert (response.status_code, response.json()["errors"][0]["field"]) == (415, "Content-Type")


async def test_get(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["GetMessage"] = pb.GetMessageResponse(message=samples.message())
    response = await client.get(f"{BASE}/m1")
    answers.Message.model_validate(response.json())
    data = response.json()
    assert (data["status"], data["type"], data["direction"]) == ("delivered", "mms", "outbound")
    assert data["attachments"] == [
        {"url": "https://e.com/a.jpg", "content_type": None, "filename": None, "content": None},
        {"url": None, "content_type": None, "filename": None, "content": "AP8="},
    ]
    assert data["send_at"] == samples.NOON_TEXT
    assert fakes.only("GetMessage").request.message_id == "m1"


async def test_list(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["ListMessages"] = pb.ListMessagesResponse(
        messages=[samples.message(), samples.bare_message()], next_page_token="t2"
    )
    query = "conversation_id=c1&type=sms&status=received&direction=inbound&page_size=2&page_token=t1"
    response = await client.get(f"{BASE}?{query}")
    answers.Messages.model_validate(response.json())
    assert response.json()["next_page_token"] == "t2"
    assert response.json()["messages"][1]["send_at"] is None
    assert fakes.only("ListMessages").request == pb.ListMessagesRequest(
        conversation_id="c1",
        channel=message_pb2.CHANNEL_SMS,
        state=message_pb2.MESSAGE_STATE_RECEIVED,
        direction=message_pb2.DIRECTION_INBOUND,
        page_size=2,
        page_token="t1",
    )


async def test_events(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["ListMessageEvents"] = pb.ListMessageEventsResponse(
        events=[
            message_pb2.MessageEvent(message_id="m1", sequence=1, type="accepted", create_time=samples.NOON)
        ]
    )
    response = await client.get(f"{BASE}/m1/events")
    answers.MessageEvents.model_validate(response.json())
    assert response.json()["events"][0]["created_at"] == samples.NOON_TEXT
    assert response.json()["next_page_token"] is None


async def test_attempts(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["ListDispatchAttempts"] = dispatch_pb.ListDispatchAttemptsResponse(
        attempts=[samples.attempt()]
    )
    response = await client.get(f"{BASE}/m1/attempts")
    answers.Attempts.model_validate(response.json())
    assert response.json()["attempts"][0]["outcome"] == "retryable"


async def test_cancel(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["CancelMessage"] = pb.CancelMessageResponse(message=samples.message())
    response = await client.post(f"{BASE}/m1/cancel")
    assert response.json()["id"] == "m1"
    assert fakes.only("CancelMessage").request.message_id == "m1"


async def test_resolve(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["ResolveMessage"] = dispatch_pb.ResolveMessageResponse(message=samples.message())
    response = await client.post(
        f"{BASE}/m1/resolve", json={"status": "sent", "reason": "seen in the console"}
    )
    assert response.json()["id"] == "m1"
    assert fakes.only("ResolveMessage").request == dispatch_pb.ResolveMessageRequest(
        message_id="m1", state=message_pb2.MESSAGE_STATE_SENT, reason="seen in the console"
    )
    response = await client.post(f"{BASE}/m1/resolve", json={"status": "delivered"})
    assert [error["field"] for error in response.json()["errors"]] == ["status", "reason"]


async def test_receive(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["ReceiveMessages"] = pb.ReceiveMessagesResponse(
        results=[
            pb.ReceiveResult(message_id="m1", conversation_id="c1"),
            pb.ReceiveResult(message_id="m1", conversation_id="c1", duplicate=True),
            pb.ReceiveResult(
                error=pb.ItemError(
                    code=3,
                    reason="INVALID_FIELD",
                    field_violations=[pb.FieldViolation(field="sender", description="bad")],
                )
            ),
        ]
    )
    inbound = {
        "source": "s",
        "event_id": "1",
        "from": "+15559876543",
        "to": "+15551234567",
        "body": "hi",
        "attachments": [{"url": "https://e.com/a"}],
        "message_at": "2027-01-15T08:00:00Z",
    }
    response = await client.post(f"{BASE}/receive", json={"messages": [inbound, inbound, {}, inbound]})
    assert response.status_code == 207
    answers.ReceiveResults.model_validate(response.json())
    results = response.json()["results"]
    assert [result["status"] for result in results] == [201, 200, 400, 400]
    assert results[3]["error"]["errors"][0]["field"] == "messages[3].from"
    sent = fakes.only("ReceiveMessages").request.messages
    assert len(sent) == 3
    assert sent[0].message_time.ToJsonString() == "2027-01-15T08:00:00Z"
    assert sent[0].attachments[0].url == "https://e.com/a"
