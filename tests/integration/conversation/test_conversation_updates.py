"""Read marks, archive state and updates through a real server."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from posthouse.v1 import conversation_pb2
from posthouse.v1 import conversation_service_pb2 as pb
from services.kit.ids import new_id

from .conftest import START, Seed

pytestmark = pytest.mark.integration


async def test_read_mark_moves_forward_only(stub: Any, seed: Seed) -> None:
    thread = await seed.conversation()
    inbound = [await seed.message(thread) for _ in range(2)]
    outbound = await seed.message(thread, direction="outbound", state="sent")
    inbound += [await seed.message(thread) for _ in range(2)]

    async def unread_after(message_id: str) -> int:
        request = pb.MarkConversationReadRequest(conversation_id=thread, message_id=message_id)
        return int((await stub.MarkConversationRead(request)).conversation.unread_count)

    assert await unread_after(inbound[0]) == 3
    assert await unread_after(outbound) == 2
    assert await unread_after(inbound[0]) == 2
    assert await unread_after(inbound[2]) == 1
    assert await unread_after("") == 0
    assert await unread_after(inbound[0]) == 0
    await seed.message(thread)
    found = await stub.GetConversation(pb.GetConversationRequest(conversation_id=thread))
    assert found.conversation.unread_count == 1


async def test_messages_of_one_time_are_read_by_id(stub: Any, seed: Seed) -> None:
    thread = await seed.conversation()
    made = [await seed.message(thread, message_time=START) for _ in range(3)]
    request = pb.MarkConversationReadRequest(conversation_id=thread, message_id=made[1])
    assert (await stub.MarkConversationRead(request)).conversation.unread_count == 1


async def test_read_mark_needs_a_message_of_the_conversation(
    stub: Any, refusal: Callable[[Any], Any], seed: Seed
) -> None:
    thread = await seed.conversation()
    elsewhere = await seed.message(await seed.conversation("+15550001111"))
    for conversation_id, message_id, reason in (
        (thread, new_id(), "MESSAGE_NOT_FOUND"),
        (thread, elsewhere, "MESSAGE_NOT_FOUND"),
        (new_id(), elsewhere, "CONVERSATION_NOT_FOUND"),
    ):
        request = pb.MarkConversationReadRequest(conversation_id=conversation_id, message_id=message_id)
        error = await refusal(stub.MarkConversationRead(request))
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, reason)
    request = pb.MarkConversationReadRequest(conversation_id=thread, message_id="x")
    error = await refusal(stub.MarkConversationRead(request))
    assert [violation.field for violation in error.violations] == ["message_id"]


async def test_archive_and_back(stub: Any, seed: Seed) -> None:
    thread = await seed.conversation()
    request = pb.ArchiveConversationRequest(conversation_id=thread)
    first = (await stub.ArchiveConversation(request)).conversation
    again = (await stub.ArchiveConversation(request)).conversation
    assert first.HasField("archive_time")
    assert again.archive_time == first.archive_time
    assert not (await stub.ListConversations(pb.ListConversationsRequest())).conversations
    for _ in range(2):
        back = await stub.UnarchiveConversation(pb.UnarchiveConversationRequest(conversation_id=thread))
        assert not back.conversation.HasField("archive_time")
    assert (await stub.ListConversations(pb.ListConversationsRequest())).conversations


async def test_update_changes_what_the_mask_names(stub: Any, seed: Seed) -> None:
    thread = await seed.conversation(workflow_type="claim", workflow_id="7", metadata={"a": "b"})

    async def updated(*paths: str, **values: Any) -> conversation_pb2.Conversation:
        request = pb.UpdateConversationRequest(
            conversation=conversation_pb2.Conversation(id=thread, **values),
            update_mask=FieldMask(paths=paths),
        )
        await stub.UpdateConversation(request)
        found = await stub.GetConversation(pb.GetConversationRequest(conversation_id=thread))
        return found.conversation  # type: ignore[no-any-return]

    found = await updated("workflow_id", workflow_type="ignored", workflow_id="8", metadata={"no": "no"})
    assert (found.workflow_type, found.workflow_id, dict(found.metadata)) == ("claim", "8", {"a": "b"})
    found = await updated("metadata", "workflow_type", workflow_type="loan", metadata={"é": "ñ", "c": ""})
    assert (found.workflow_type, found.workflow_id) == ("loan", "8")
    assert dict(found.metadata) == {"é": "ñ", "c": ""}
    found = await updated("metadata", "workflow_type", "workflow_id")
    assert (found.workflow_type, found.workflow_id, dict(found.metadata)) == ("", "", {})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (([], {}), "update_mask"),
        ((["tenant_id"], {"tenant_id": "t"}), "update_mask"),
        ((["workflow_type", "*"], {}), "update_mask"),
        ((["metadata.a"], {}), "update_mask"),
        ((["workflow_type"], {"workflow_type": "a\x00"}), "conversation.workflow_type"),
        ((["workflow_id"], {"workflow_id": "x" * 256}), "conversation.workflow_id"),
        ((["metadata"], {"metadata": {str(n): "" for n in range(51)}}), "conversation.metadata"),
        ((["metadata"], {"metadata": {"": "x"}}), "conversation.metadata"),
        ((["metadata"], {"metadata": {"k" * 65: "x"}}), "conversation.metadata"),
        ((["metadata"], {"metadata": {"a": "x" * 501}}), "conversation.metadata"),
        ((["metadata"], {"metadata": {"a": "\x00"}}), "conversation.metadata"),
        ((["workflow_id"], {"id": ""}), "conversation.id"),
    ],
)
async def test_update_refuses(
    stub: Any,
    refusal: Callable[[Any], Any],
    seed: Seed,
    change: tuple[list[str], dict[str, Any]],
    field: str,
) -> None:
    paths, values = change
    thread = await seed.conversation(workflow_type="claim")
    request = pb.UpdateConversationRequest(
        conversation=conversation_pb2.Conversation(**{"id": thread, **values}),
        update_mask=FieldMask(paths=paths),
    )
    error = await refusal(stub.UpdateConversation(request))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in error.violations] == [field]
    found = await stub.GetConversation(pb.GetConversationRequest(conversation_id=thread))
    assert found.conversation.workflow_type == "claim"


async def test_update_of_nothing(stub: Any, refusal: Callable[[Any], Any]) -> None:
    request = pb.UpdateConversationRequest(
        conversation=conversation_pb2.Conversation(id=new_id()), update_mask=FieldMask(paths=["metadata"])
    )
    error = await refusal(stub.UpdateConversation(request))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "CONVERSATION_NOT_FOUND")
