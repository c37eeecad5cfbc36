"""Routes of conversations, dispatch, webhooks and the SMS-foundation API."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from gateway import answers, operation_shapes
from gateway.app import build_app
from gateway.webhooks import called_url
from posthouse.v1 import conversation_pb2, dispatch_pb2, message_pb2
from posthouse.v1 import conversation_service_pb2 as conversation_pb
from posthouse.v1 import dispatch_service_pb2 as dispatch_pb
from posthouse.v1 import message_service_pb2 as pb
from services.kit.errors import ForbiddenError, InvalidRequestError
from services.kit.status import to_item_error
from tests.unit.gateway import samples
from tests.unit.gateway.conftest import MAX_WEBHOOK, PHONE, Gateway
from tests.unit.gateway.fakes import Fakes, accept_all, ingested

CONVERSATIONS = "/api/v1/conversations"


async def test_list_conversations(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["ListConversations"] = conversation_pb.ListConversationsResponse(
        conversations=[samples.conversation()], next_page_token="t2"
    )
    query = {
        "participant": "+15559876543",
        "channel_family": "sms",
        "tenant_id": "t",
        "workflow_type": "w",
        "workflow_id": "i",
        "unread_only": "true",
        "include_archived": "true",
        "since": "2027-01-15T08:00:00Z",
        "until": "2027-01-16T08:00:00+00:00",
        "text": "hello",
        "page_size": "5",
        "page_token": "t1",
    }
    response = await client.get(CONVERSATIONS, params=query)
    answers.Conversations.model_validate(response.json())
    assert response.json()["conversations"][0]["message_count"] == 2**40
    request = fakes.only("ListConversations").request
    assert request.participant == "+15559876543"
    assert request.channel_family == conversation_pb2.CHANNEL_FAMILY_SMS
    assert request.unread_only
    assert request.include_archived
    assert request.since_time.ToJsonString() == "2027-01-15T08:00:00Z"
    assert len(request.ListFields()) == 12


async def test_bad_time_in_a_query(client: httpx2.AsyncClient) -> None:
    response = await client.get(f"{CONVERSATIONS}?since=yesterday")
    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == "since"


@pytest.mark.parametrize(
    ("method", "path", "rpc", "answer"),
    [
        ("GET", "", "GetConversation", conversation_pb.GetConversationResponse),
        ("POST", "/read", "MarkConversationRead", conversation_pb.MarkConversationReadResponse),
        ("POST", "/archive", "ArchiveConversation", conversation_pb.ArchiveConversationResponse),
        ("POST", "/unarchive", "UnarchiveConversation", conversation_pb.UnarchiveConversationResponse),
    ],
)
async def test_one_conversation(gateway: Gateway, method: str, path: str, rpc: str, answer: type) -> None:
    gateway.fakes.answers[rpc] = answer(conversation=samples.conversation())
    response = await gateway.client.request(method, f"{CONVERSATIONS}/c1{path}")
    assert response.status_code == 200
    answers.Conversation.model_validate(response.json())
    assert gateway.fakes.only(rpc).request.conversation_id == "c1"


async def test_read_up_to_a_message(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["MarkConversationRead"] = conversation_pb.MarkConversationReadResponse()
    await client.post(f"{CONVERSATIONS}/c1/read", json={"message_id": "m1"})
    assert fakes.only("MarkConversationRead").request.message_id == "m1"


async def test_conversation_messages(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["ListConversationMessages"] = conversation_pb.ListConversationMessagesResponse(
        messages=[samples.message()]
    )
    response = await client.get(f"{CONVERSATIONS}/c1/messages?page_size=3")
    answers.Messages.model_validate(response.json())
    assert fakes.only("ListConversationMessages").request.page_size == 3


async def test_conversation_changes(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["ListConversationChanges"] = conversation_pb.ListConversationChangesResponse(
        changes=[samples.conversation_change(), conversation_pb2.ConversationChange(
            id="x2", conversation_id="c1", type="tenant_linked", create_time=samples.NOON, source="monitor"
        )],
        next_page_token="more",
    )  # fmt: skip
    response = await client.get(f"{CONVERSATIONS}/c1/changes?page_size=2")
    found = answers.ConversationChanges.model_validate(response.json())
    assert found.changes[0].model_dump(exclude={"created_at"}) == {
        "id": "x1", "conversation_id": "c1", "type": "language_changed", "old_value": "es", "new_value": "en",
        "confidence": 0.95, "source": "message", "message_id": "m1",
    }  # fmt: skip
    assert (found.changes[1].new_value, found.changes[1].confidence, found.next_page_token) == (
        None, None, "more"
    )  # fmt: skip
    assert fakes.only("ListConversationChanges").request.page_size == 2


async def test_search(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["SearchMessages"] = conversation_pb.SearchMessagesResponse(
        hits=[conversation_pb.SearchHit(message=samples.message(), highlight="«b»")]
    )
    response = await client.post(f"{CONVERSATIONS}/search", json={"query": "b", "conversation_id": "c1"})
    answers.SearchHits.model_validate(response.json())
    assert fakes.only("SearchMessages").request == conversation_pb.SearchMessagesRequest(
        query="b", conversation_id="c1"
    )


async def test_update_conversation(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["UpdateConversation"] = conversation_pb.UpdateConversationResponse(
        conversation=samples.conversation()
    )
    await client.patch(f"{CONVERSATIONS}/c1", json={"workflow_type": "w", "metadata": None})
    request = fakes.only("UpdateConversation").request
    assert list(request.update_mask.paths) == ["metadata", "workflow_type"]
    assert (request.conversation.id, request.conversation.workflow_type) == ("c1", "w")
    response = await client.patch(f"{CONVERSATIONS}/c1", json={})
    assert (response.status_code, response.json()["errors"][0]["field"]) == (400, "body")


async def test_stats(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["GetConversationStats"] = conversation_pb.GetConversationStatsResponse(
        messages_by_direction={"inbound": 2}, delivery_rate=0.5
    )
    response = await client.get(f"{CONVERSATIONS}/stats?conversation_id=c1")
    answers.Stats.model_validate(response.json())
    assert response.json()["messages_by_direction"] == {"inbound": 2}


async def test_providers(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["ListProviders"] = dispatch_pb.ListProvidersResponse(providers=[samples.provider()])
    response = await client.get("/api/v1/providers")
    operation_shapes.Providers.model_validate(response.json())
    assert response.json()["providers"][0]["breaker"] == "half_open"


async def test_dead_letters(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["ListDeadLetters"] = dispatch_pb.ListDeadLettersResponse(
        dead_letters=[samples.dead_letter()]
    )
    response = await client.get(
        "/api/v1/dead-letters?type=sms&reason=rejected&include_replayed=true&provider=twilio&error_code=21211"
        "&since=2026-11-22T03:00:00Z&until=2026-11-22T04:00:00Z"
    )
    operation_shapes.DeadLetters.model_validate(response.json())
    assert fakes.only("ListDeadLetters").request == dispatch_pb.ListDeadLettersRequest(
        channel=message_pb2.CHANNEL_SMS,
        reason="rejected",
        include_replayed=True,
        provider="twilio",
        error_code="21211",
        since_time=Timestamp(seconds=1795316400),
        until_time=Timestamp(seconds=1795320000),
    )


async def test_replay(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["ReplayDeadLetters"] = dispatch_pb.ReplayDeadLettersResponse(
        replayed_message_ids=["m1"], replayed_count=1, more=True
    )
    response = await client.post("/api/v1/dead-letters/replay", json={"message_ids": ["m1", "m2"]})
    operation_shapes.Replayed.model_validate(response.json())
    assert response.json() == {"replayed_message_ids": ["m1"], "replayed_count": 1, "more": True}
    request = fakes.only("ReplayDeadLetters").request
    assert request == dispatch_pb.ReplayDeadLettersRequest(message_ids=["m1", "m2"])


async def test_replay_by_filter(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["ReplayDeadLetters"] = dispatch_pb.ReplayDeadLettersResponse()
    chosen = {"type": "sms", "reason": "rejected", "provider": "twilio", "error_code": "21211"}
    times = {"since": "2026-11-22T03:00:00Z", "until": "2026-11-22T04:00:00Z"}
    await client.post("/api/v1/dead-letters/replay", json={"filter": {**chosen, **times}})
    assert fakes.only("ReplayDeadLetters").request == dispatch_pb.ReplayDeadLettersRequest(
        filter=dispatch_pb.DeadLetterFilter(
            channel=message_pb2.CHANNEL_SMS,
            reason="rejected",
            provider="twilio",
            error_code="21211",
            since_time=Timestamp(seconds=1795316400),
            until_time=Timestamp(seconds=1795320000),
        )
    )


async def test_simulator(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    profile = dispatch_pb2.SimulatorProfile(channel=message_pb2.CHANNEL_SMS, reply_rate=0.5, seed=2**60)
    fakes.answers["GetSimulatorProfile"] = dispatch_pb.GetSimulatorProfileResponse(profiles=[profile])
    fakes.answers["SetSimulatorProfile"] = dispatch_pb.SetSimulatorProfileResponse(profiles=[profile])
    got = (await client.get("/api/v1/simulator?type=sms")).json()
    operation_shapes.SimulatorProfiles.model_validate(got)
    assert fakes.only("GetSimulatorProfile").request.channel == message_pb2.CHANNEL_SMS
    response = await client.put("/api/v1/simulator", json=got["profiles"][0])
    assert response.json() == got
    assert fakes.only("SetSimulatorProfile").request.profile == profile
    response = await client.put("/api/v1/simulator", json={"reply_rate": 2, "latency_ms": -1, "seed": "x"})
    assert {error["field"] for error in response.json()["errors"]} == {"reply_rate", "latency_ms", "seed"}


@pytest.mark.parametrize(
    ("path", "provider"),
    [
        ("/api/v1/webhooks/simulator", "simulator"),
        ("/webhook/twilio/sms", "twilio"),
        ("/webhook/twilio/status", "twilio"),
    ],
)
async def test_webhooks_pass_as_they_came(gateway: Gateway, path: str, provider: str) -> None:
    gateway.fakes.answers["IngestWebhooks"] = ingested(
        http_status=200, content_type="text/xml", body=b"<Response/>"
    )
    body = b"From=%2B15559876543&Body=h\xe9"
    response = await gateway.client.post(
        f"{path}?a=%20b&c", content=body, headers={"X-Twilio-Signature": "sig", "content-type": "text/plain"}
    )
    assert (response.status_code, response.headers["content-type"]) == (200, "text/xml")
    assert response.content == b"<Response/>"
    (request,) = gateway.fakes.only("IngestWebhooks").request.requests
    assert (request.provider, request.method, request.body) == (provider, "POST", body)
    assert request.url == f"http://posthouse.test{path}?a=%20b&c"
    assert request.remote_address == "203.0.113.9"
    assert pb.Header(name="x-twilio-signature", value="sig") in request.headers


async def test_a_webhook_may_be_larger_than_other_bodies(gateway: Gateway) -> None:
    gateway.fakes.answers["IngestWebhook"] = pb.IngestWebhookResponse(http_status=200)
    body = b"x" * (MAX_WEBHOOK - 1)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1 << 20):
            yield body[start : start + (1 << 20)]

    for content in (body, pieces()):
        response = await gateway.client.post("/api/v1/webhooks/sendgrid", content=content)
        assert response.status_code == 200
    assert [call.request.body == body for call in gateway.fakes.seen] == [True, True]
    response = await gateway.client.post("/webhook/twilio/sms", content=b"x" * (MAX_WEBHOOK + 1))
    assert (response.status_code, response.json()["reason"]) == (413, "TOO_LARGE")


async def test_forged_webhook(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    refused = to_item_error(ForbiddenError("wrong signature", reason="WEBHOOK_FORGED"))
    fakes.answers["IngestWebhooks"] = pb.IngestWebhooksResponse(results=[pb.WebhookResult(error=refused)])
    response = await client.post("/api/v1/webhooks/simulator", content=b"{}")
    assert (response.status_code, response.json()["reason"]) == (403, "WEBHOOK_FORGED")


async def test_webhook_answer_without_status_or_type(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["IngestWebhooks"] = ingested()
    response = await client.post("/api/v1/webhooks/simulator", content=b"{}")
    assert (response.status_code, response.content) == (200, b"")


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (("10.0.0.1", 8000), "http://10.0.0.1:8000/a"),
        (("/run/x", None), "http:///run/x/a"),
        (None, "http://localhost/a"),
    ],
)
def test_url_without_host_header(server: tuple[str, int] | None, expected: str) -> None:
    scope: dict[str, Any] = {
        "type": "http",
        "scheme": "http",
        "path": "/a",
        "query_string": b"",
        "headers": [],
        "server": server,
    }
    assert called_url(scope) == expected


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
    assert "TWILIO_PHONE_NUMBER" in response.json()["detail"]
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
