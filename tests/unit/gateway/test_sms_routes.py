"""Routes of the SMS-foundation API."""

from dataclasses import replace

import httpx2

from gateway import answers
from gateway.app import build_app
from posthouse.v1 import conversation_pb2, message_pb2
from posthouse.v1 import conversation_service_pb2 as conversation_pb
from posthouse.v1 import message_service_pb2 as pb
from services.kit.errors import InvalidRequestError
from tests.unit.gateway import samples
from tests.unit.gateway.conftest import PHONE, Gateway
from tests.unit.gateway.fakes import Fakes, accept_all


async def test_sms_send(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["SendMessages"] = accept_all
    response = await client.post(
        "/sms/send",
        json={"to": "+15559876543", "body": "hi"},
        headers={"Idempotency-Key": "k"},
    )
    assert response.status_code == 202
    answers.Accepted.model_validate(response.json())
    assert fakes.only("SendMessages").request.requests[0] == pb.SendMessageRequest(
        sender=PHONE,
        recipient="+15559876543",
        body="hi",
        channel=message_pb2.CHANNEL_SMS,
        request_id="k",
    )
    for wrong in ({"body": "hi"}, {"body": "hi", "to": "ann@example.com"}):
        response = await client.post("/sms/send", json=wrong)
        assert (response.status_code, response.json()["errors"][0]["field"]) == (400, "to")
    fakes.only("SendMessages")


async def test_sms_send_within_a_conversation(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["SendMessages"] = accept_all
    conversation = samples.conversation()
    fakes.answers["LookupConversation"] = conversation_pb.LookupConversationResponse(
        conversations=[conversation]
    )
    body = {"to": "+15559876543", "body": "hi", "conversation_id": conversation.id}
    assert (await client.post("/sms/send", json=body)).status_code == 202
    assert list(fakes.only("LookupConversation").request.participants) == [PHONE, "+15559876543"]
    response = await client.post("/sms/send", json={**body, "conversation_id": "another"})
    assert (response.status_code, response.json()["errors"][0]["field"]) == (400, "conversation_id")
    fakes.only("SendMessages")


async def test_sms_send_without_a_number(gateway: Gateway) -> None:
    app = build_app(replace(gateway.wiring, phone_number=None))
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://posthouse.test") as client:
        response = await client.post("/sms/send", json={"to": "+15559876543", "body": "hi"})
        document = (await client.get("/api/v1/openapi.json")).json()
    assert (response.status_code, response.json()["reason"]) == (409, "SENDER_NOT_CONFIGURED")
    (error,) = response.json()["errors"]
    assert error["field"] == "from"
    assert "TWILIO_PHONE_NUMBER" in error["message"]
    assert response.json()["detail"] == f"from: {error['message']}"
    assert "retry-after" not in response.headers
    assert "application/problem+json" in document["paths"]["/sms/send"]["post"]["responses"]["409"]["content"]


async def test_conversation_of_a_number(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    async def page(
        request: conversation_pb.ListConversationMessagesRequest,
    ) -> conversation_pb.ListConversationMessagesResponse:
        number = int(request.page_token or "1")
        message = samples.message()
        message.id = f"m{number}"
        return conversation_pb.ListConversationMessagesResponse(
            messages=[message], next_page_token=str(number + 1) if number < 3 else ""
        )

    fakes.answers["ListConversationMessages"] = page
    fakes.answers["LookupConversation"] = conversation_pb.LookupConversationResponse(
        conversations=[samples.conversation(), samples.conversation()]
    )
    for number, expected in [(1, ["m1"]), (3, ["m3"]), (5, [])]:
        response = await client.get(f"/conversations/+15559876543?page={number}&limit=1")
        assert response.status_code == 200
        answers.PhoneConversation.model_validate(response.json())
        assert [message["id"] for message in response.json()["messages"]] == expected
    found = (await client.get("/conversations/+15559876543?limit=1&cursor=2")).json()
    assert ([message["id"] for message in found["messages"]], found["next_cursor"]) == (["m2"], "3")
    assert found["page"] is None
    conversation = samples.conversation()
    assert found["conversation_id"] == conversation.id
    assert found["total"] == 2 * conversation.message_count
    assert found["tenant_id"] == conversation.tenant_id
    assert found["workflow_type"] == conversation.workflow_type
    assert found["language"] == conversation.language
    (message,) = found["messages"]
    assert (message["direction"], message["content"], message["twilio_sid"]) == ("outbound", "b", "p1")
    assert (message["delivery_status"], message["created_at"]) == ("delivered", samples.NOON_TEXT)
    assert fakes.seen[0].request.participants == ["+15559876543"]
    assert fakes.seen[1].request == conversation_pb.ListConversationMessagesRequest(
        participant="+15559876543", channel_family=conversation_pb2.CHANNEL_FAMILY_SMS, page_size=1
    )
    fakes.answers["LookupConversation"] = conversation_pb.LookupConversationResponse()
    response = await client.get("/conversations/+15550000000")
    assert (response.status_code, response.json()["reason"]) == (404, "CONVERSATION_NOT_FOUND")
    response = await client.get("/conversations/+15550000000?page=0&limit=999")
    assert [error["field"] for error in response.json()["errors"]] == ["page", "limit"]


async def test_errors_of_a_number_name_what_the_caller_sent(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["LookupConversation"] = InvalidRequestError.field("participants[0]", "is no number")
    for response in (
        await client.get("/conversations/+999"),
        await client.patch("/conversations/+999", json={"workflow_id": "1"}),
    ):
        assert (response.status_code, response.json()["detail"]) == (400, "phone_number: is no number")
    fakes.answers["LookupConversation"] = InvalidRequestError.field("participants[1]", "is no number")
    response = await client.post("/sms/send", json={"to": "+999", "body": "hi", "conversation_id": "c1"})
    assert [error["field"] for error in response.json()["errors"]] == ["to"]
    fakes.answers["LookupConversation"] = conversation_pb.LookupConversationResponse(
        conversations=[samples.conversation()]
    )
    fakes.answers["ListConversationMessages"] = InvalidRequestError.field("page_token", "is not ours")
    response = await client.get("/conversations/+15559876543?cursor=zz")
    assert [error["field"] for error in response.json()["errors"]] == ["cursor"]


async def test_workflow_of_a_number(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    conversation = samples.conversation()
    fakes.answers["LookupConversation"] = conversation_pb.LookupConversationResponse(
        conversations=[conversation]
    )
    fakes.answers["UpdateConversation"] = conversation_pb.UpdateConversationResponse(
        conversation=conversation
    )
    url = "/conversations/(555) 987-6543"
    response = await client.patch(url, json={"workflow_type": "any thing", "workflow_id": None})
    assert response.status_code == 200
    answers.PhoneWorkflow.model_validate(response.json())
    assert response.json()["phone_number"] == "(555) 987-6543"
    request = fakes.only("UpdateConversation").request
    assert list(request.update_mask.paths) == ["workflow_id", "workflow_type"]
    assert (request.conversation.id, request.conversation.workflow_type) == (conversation.id, "any thing")
    response = await client.patch(url, json={})
    assert (response.status_code, response.json()["errors"][0]["field"]) == (400, "body")
    response = await client.patch(url, json={"tenant_id": "t"})
    assert (response.status_code, response.json()["errors"][0]["field"]) == (400, "tenant_id")
    fakes.answers["LookupConversation"] = conversation_pb.LookupConversationResponse()
    response = await client.patch(url, json={"workflow_id": "1"})
    assert response.status_code == 404
