"""Routes of conversations."""

import httpx2
import pytest

from gateway import answers
from posthouse.v1 import conversation_pb2
from posthouse.v1 import conversation_service_pb2 as conversation_pb
from tests.unit.gateway import samples
from tests.unit.gateway.conftest import Gateway
from tests.unit.gateway.fakes import Fakes

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
