"""Conversations one by one: by id, and by the addresses they are between."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from posthouse.v1 import conversation_pb2
from posthouse.v1 import conversation_service_pb2 as pb
from services.kit.ids import new_id

from .conftest import CONTACT, OURS, START, Seed

pytestmark = pytest.mark.integration


async def test_get_conversation(stub: Any, seed: Seed) -> None:
    thread = await seed.conversation(
        workflow_type="claim",
        workflow_id="7",
        tenant_id="t1",
        language="es",
        metadata={"a": "b"},
        read_count=1,
    )
    await seed.message(thread)
    last = await seed.message(thread)
    found = (
        await stub.GetConversation(pb.GetConversationRequest(conversation_id=thread.upper()))
    ).conversation
    assert found.id == thread
    assert found.channel_family == conversation_pb2.CHANNEL_FAMILY_SMS
    assert list(found.participants) == [OURS, CONTACT]
    assert (found.message_count, found.unread_count) == (2, 1)
    assert (found.workflow_type, found.workflow_id, found.tenant_id, found.language) == (
        "claim",
        "7",
        "t1",
        "es",
    )
    assert dict(found.metadata) == {"a": "b"}
    assert found.last_message_time.seconds > found.create_time.seconds
    assert not found.HasField("archive_time")
    listed = await stub.ListConversationMessages(pb.ListConversationMessagesRequest(conversation_id=thread))
    assert listed.messages[0].id == last


@pytest.mark.parametrize(
    ("method", "request_type"),
    [
        ("GetConversation", pb.GetConversationRequest),
        ("ListConversationMessages", pb.ListConversationMessagesRequest),
        ("ListConversationChanges", pb.ListConversationChangesRequest),
        ("MarkConversationRead", pb.MarkConversationReadRequest),
        ("ArchiveConversation", pb.ArchiveConversationRequest),
        ("UnarchiveConversation", pb.UnarchiveConversationRequest),
    ],
)
async def test_conversation_ids_are_checked(
    stub: Any, refusal: Callable[[Any], Any], method: str, request_type: type[Any]
) -> None:
    error = await refusal(getattr(stub, method)(request_type(conversation_id=new_id())))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "CONVERSATION_NOT_FOUND")
    for text in ("", "7", "x' OR 1=1"):
        error = await refusal(getattr(stub, method)(request_type(conversation_id=text)))
        assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
        assert [violation.field for violation in error.violations] == ["conversation_id"]


@pytest.mark.parametrize(
    "written",
    [
        "+15559876543",
        "+1 (555) 987-6543",
        "0015559876543",
        "tel:+1.555.987.6543",
        "15559876543",
        " 1-555-987-6543",
        "5559876543",
        "(555) 987-6543",
    ],
)
async def test_a_number_is_taken_in_any_form(stub: Any, seed: Seed, written: str) -> None:
    older = await seed.conversation()
    newer = await seed.conversation(ours="+15550001111", archive_time=START)
    await seed.conversation("+15550002222")
    request = pb.LookupConversationRequest(participants=[written])
    found = await stub.LookupConversation(request)
    assert [conversation.id for conversation in found.conversations] == [newer, older]
    both = await stub.LookupConversation(pb.LookupConversationRequest(participants=[OURS, written]))
    assert [conversation.id for conversation in both.conversations] == [older]
    listed = await stub.ListConversations(pb.ListConversationsRequest(participant=written))
    assert [conversation.id for conversation in listed.conversations] == [older]


async def test_lookup_by_family(stub: Any, seed: Seed) -> None:
    text = await seed.conversation()
    call = await seed.conversation(family="voice")
    mail = await seed.conversation("ann@example.com", "us@example.com", "email")

    async def ids(*participants: str, family: int = 0) -> list[str]:
        request = pb.LookupConversationRequest(participants=participants, channel_family=family)  # type: ignore[arg-type]
        return [found.id for found in (await stub.LookupConversation(request)).conversations]

    assert await ids(CONTACT, OURS) == [call, text]
    assert await ids(CONTACT, OURS, family=conversation_pb2.CHANNEL_FAMILY_SMS) == [text]
    assert await ids(CONTACT, family=conversation_pb2.CHANNEL_FAMILY_VOICE) == [call]
    assert await ids("Ann <ann@EXAMPLE.COM>") == [mail]
    assert await ids("ann@example.com", "us@Example.com") == [mail]
    assert await ids("Ann@example.com") == []
    assert await ids(CONTACT, "+15550009999") == []
    assert await ids("12345") == []


@pytest.mark.parametrize(
    ("participants", "family", "field"),
    [
        ([], 0, "participants"),
        ([OURS, CONTACT, OURS], 0, "participants"),
        (["nobody at all here"], 0, "participants[0]"),
        ([OURS, "+1"], 0, "participants[1]"),
        (["(555) 98"], 0, "participants[0]"),
        (["1" * 40], 0, "participants[0]"),
        ([OURS, "a\x00@example.com"], 0, "participants[1]"),
        ([OURS], 99, "channel_family"),
    ],
)
async def test_lookup_refuses(
    stub: Any, refusal: Callable[[Any], Any], participants: list[str], family: Any, field: str
) -> None:
    request = pb.LookupConversationRequest(participants=participants, channel_family=family)
    error = await refusal(stub.LookupConversation(request))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in error.violations] == [field]
