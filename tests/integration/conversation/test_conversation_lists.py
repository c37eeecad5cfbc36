"""Finding and listing conversations and their messages through a real server."""

import base64
from collections.abc import Callable
from typing import Any

import grpc
import orjson
import pytest
import sqlalchemy as sa

from posthouse.v1 import conversation_pb2, message_pb2
from posthouse.v1 import conversation_service_pb2 as pb
from services.conversation import queries
from services.conversation.filters import ConversationFilter
from services.kit.ids import new_id
from services.kit.page_tokens import Position
from services.ledger.database import Database

from .conftest import CONTACT, OURS, START, Seed

pytestmark = pytest.mark.integration


async def test_pages_are_stable_while_rows_arrive(stub: Any, seed: Seed) -> None:
    made = [await seed.conversation(f"+1555000{n:04}", last_message_time=START) for n in range(9)]
    made.sort(reverse=True)  # all at one time: the id breaks the tie
    seen: list[str] = []
    token = ""
    while True:
        request = pb.ListConversationsRequest(page_size=2, page_token=token)
        page = await stub.ListConversations(request)
        seen += [conversation.id for conversation in page.conversations]
        token = page.next_page_token
        if not token:
            break
        await seed.conversation(f"+1555100{len(seen):04}")  # a new one, at the top
        await seed.message(seen[0])  # one already seen moves up
    assert seen == made


async def test_messages_are_paged_newest_first(stub: Any, seed: Seed) -> None:
    thread = await seed.conversation()
    same_time = [await seed.message(thread, message_time=START) for _ in range(4)]
    later = [await seed.message(thread) for _ in range(3)]
    await seed.message(await seed.conversation("+15550001111"))
    seen: list[str] = []
    token = ""
    while True:
        request = pb.ListConversationMessagesRequest(conversation_id=thread, page_size=2, page_token=token)
        page = await stub.ListConversationMessages(request)
        seen += [message.id for message in page.messages]
        token = page.next_page_token
        if not token:
            break
        await seed.message(thread)
    assert seen == [*same_time, *later][::-1]
    assert page.messages[-1].direction == message_pb2.DIRECTION_INBOUND


async def test_messages_of_a_number_are_those_of_all_its_conversations(
    stub: Any, seed: Seed, refusal: Callable[[Any], Any]
) -> None:
    threads = [await seed.conversation(ours=ours) for ours in (OURS, "+15550005678", "+15550009999")]
    made = [await seed.message(threads[n % 3]) for n in range(7)]
    same_time = sorted([await seed.message(thread, message_time=START) for thread in threads])
    await seed.message(await seed.conversation("+15550001111"))
    await seed.message(await seed.conversation(family="email"))
    seen: list[str] = []
    token = ""
    while True:
        request = pb.ListConversationMessagesRequest(
            participant="(555) 987-6543",
            channel_family=conversation_pb2.CHANNEL_FAMILY_SMS,
            page_size=3,
            page_token=token,
        )
        page = await stub.ListConversationMessages(request)
        seen += [message.id for message in page.messages]
        token = page.next_page_token
        if not token:
            break
        await seed.message(threads[0])
    assert seen == [*same_time, *made][::-1]

    of_one = pb.ListConversationMessagesRequest(conversation_id=threads[0], page_size=1)
    other_token = (await stub.ListConversationMessages(of_one)).next_page_token
    for fields, field in (
        ({"participant": CONTACT, "conversation_id": threads[0]}, "participant"),
        ({"participant": "+999"}, "participant"),
        ({"participant": CONTACT, "page_token": other_token}, "page_token"),
    ):
        error = await refusal(stub.ListConversationMessages(pb.ListConversationMessagesRequest(**fields)))
        assert [violation.field for violation in error.violations] == [field]
    nobody = pb.ListConversationMessagesRequest(participant="+15550007777")
    error = await refusal(stub.ListConversationMessages(nobody))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "CONVERSATION_NOT_FOUND")
    silent = await seed.conversation("+15550007777")
    assert silent
    assert not (await stub.ListConversationMessages(nobody)).messages


async def test_an_exact_page_is_the_last(stub: Any, seed: Seed) -> None:
    for n in range(3):
        await seed.conversation(f"+1555000{n:04}")
    page = await stub.ListConversations(pb.ListConversationsRequest(page_size=3))
    assert len(page.conversations) == 3
    assert page.next_page_token == ""


async def test_list_filters(stub: Any, seed: Seed) -> None:
    plain = await seed.conversation("+15550000001")
    claim = await seed.conversation("+15550000002", workflow_type="claim", workflow_id="7", tenant_id="t1")
    other_claim = await seed.conversation("+15550000003", workflow_type="claim", workflow_id="8")
    mail = await seed.conversation("ann@example.com", "us@example.com", "email")
    archived = await seed.conversation("+15550000004", archive_time=START)
    unread = await seed.conversation("+15550000005", inbound_count=3, read_count=2)

    async def ids(**narrowed: Any) -> list[str]:
        page = await stub.ListConversations(pb.ListConversationsRequest(**narrowed))
        return [conversation.id for conversation in page.conversations]

    assert await ids() == [unread, mail, other_claim, claim, plain]
    assert await ids(include_archived=True) == [unread, archived, mail, other_claim, claim, plain]
    assert await ids(participant="+1 555 000 0001") == [plain]
    assert await ids(participant=OURS) == [unread, other_claim, claim, plain]
    assert await ids(channel_family=conversation_pb2.CHANNEL_FAMILY_EMAIL) == [mail]
    assert await ids(tenant_id="t1") == [claim]
    assert await ids(workflow_type="claim") == [other_claim, claim]
    assert await ids(workflow_type="claim", workflow_id="8") == [other_claim]
    assert await ids(workflow_id="7") == [claim]
    assert await ids(unread_only=True) == [unread]
    times = {
        conversation.id: conversation.last_message_time
        for conversation in (await stub.ListConversations(pb.ListConversationsRequest())).conversations
    }
    assert await ids(since_time=times[mail]) == [unread, mail]
    assert await ids(until_time=times[claim]) == [plain]
    assert await ids(since_time=times[claim], until_time=times[mail]) == [other_claim, claim]


@pytest.mark.parametrize(
    ("narrowed", "field"),
    [
        ({"participant": "nobody at all here"}, "participant"),
        ({"page_size": -1}, "page_size"),
        ({"tenant_id": "a\x00"}, "tenant_id"),
        ({"workflow_type": "x" * 256}, "workflow_type"),
        ({"channel_family": 99}, "channel_family"),
        ({"since_time": {"seconds": 1 << 60}}, "since_time"),
        ({"until_time": {"nanos": -5}}, "until_time"),
        ({"page_token": "%%%"}, "page_token"),
    ],
)
async def test_list_refuses(
    stub: Any, refusal: Callable[[Any], Any], narrowed: dict[str, Any], field: str
) -> None:
    error = await refusal(stub.ListConversations(pb.ListConversationsRequest(**narrowed)))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in error.violations] == [field]


async def test_tokens_are_bound_to_their_filter(stub: Any, refusal: Callable[[Any], Any], seed: Seed) -> None:
    thread = await seed.conversation()
    for n in range(3):
        await seed.conversation(f"+1555000{n:04}")
        await seed.message(thread)
    first = await stub.ListConversations(pb.ListConversationsRequest(page_size=1, participant=OURS))
    token = first.next_page_token
    # The same filter in other words, and another page size, go on.
    request = pb.ListConversationsRequest(page_size=2, participant="+1 555 123 4567", page_token=token)
    assert len((await stub.ListConversations(request)).conversations) == 2
    messages = await stub.ListConversationMessages(
        pb.ListConversationMessagesRequest(conversation_id=thread, page_size=1)
    )
    digest = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))[0]
    forged = [
        base64.urlsafe_b64encode(orjson.dumps([digest, *position])).decode()
        for position in (
            [],
            [1, 2],
            ["2026-01-01T00:00:00", new_id()],
            ["2026-01-01T00:00:00Z", "x"],
            [None, None],
        )
    ]
    calls = [
        stub.ListConversations(pb.ListConversationsRequest(page_token=token)),
        stub.ListConversations(pb.ListConversationsRequest(participant=CONTACT, page_token=token)),
        stub.ListConversations(pb.ListConversationsRequest(page_token=messages.next_page_token)),
        *(
            stub.ListConversations(pb.ListConversationsRequest(participant=OURS, page_token=text))
            for text in forged
        ),
    ]
    for call in calls:
        error = await refusal(call)
        assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")
        assert [violation.field for violation in error.violations] == ["page_token"]


async def test_page_sizes_are_bounded(database: Database, stub: Any) -> None:
    await _seed_many(database)
    for asked, given in ((0, 50), (7, 7), (5000, 200)):
        page = await stub.ListConversations(pb.ListConversationsRequest(page_size=asked))
        assert len(page.conversations) == given
    found = await stub.LookupConversation(pb.LookupConversationRequest(participants=[OURS]))
    assert len(found.conversations) == 100


async def test_indexes_serve_every_list(database: Database, seed: Seed, explain: Callable[..., Any]) -> None:
    await _seed_many(database)
    thread = await seed.conversation()
    after = Position(START, thread)
    walk = "Index Scan using conversations_last_message"
    for narrowed, position, expected in (
        (ConversationFilter(), None, walk),
        (ConversationFilter(), after, walk),
        (ConversationFilter(participant=OURS), after, walk),
        (ConversationFilter(tenant_id="t7"), None, "conversations_tenant"),
        (ConversationFilter(workflow_type="claim", workflow_id="7"), None, "conversations_workflow"),
        (ConversationFilter(participant=CONTACT), None, "BitmapOr"),
    ):
        plan = await explain(queries.list_conversations, narrowed, after=position, limit=50)
        assert expected in plan
        assert "Seq Scan" not in plan
    plan = await explain(queries.find_by_participant, CONTACT, channel_family="", limit=100)
    assert "conversations_participant_a" in plan
    assert "conversations_participant_b" in plan
    plan = await explain(queries.find_by_participant, OURS, channel_family="", limit=100)
    assert walk in plan
    ids = [thread, new_id(), new_id()]
    plan = await explain(queries.list_messages_of_all, ids, after=after, limit=50)
    assert "messages_conversation" in plan
    plan = await explain(queries.find_by_ids, [thread, new_id(), new_id()])
    assert "conversations_pkey" in plan


async def _seed_many(database: Database) -> None:
    """Write 5,000 conversations of one number of ours, 50 of them of tenants and workflows."""
    async with database.write() as connection:
        await connection.execute(
            sa.text(
                "INSERT INTO conversations (id, channel_family, participant_a, participant_b, create_time,"
                " last_message_time, last_message_id, tenant_id, workflow_type, workflow_id) "
                "SELECT gen_random_uuid(), 'sms', :ours, '+1556' || (1000000 + n), now(),"
                " now() - n * interval '1 minute', gen_random_uuid(),"
                " CASE WHEN n <= 50 THEN 't' || n END, CASE WHEN n <= 50 THEN 'claim' END,"
                " CASE WHEN n <= 50 THEN n::text END FROM generate_series(1, 5000) AS n"
            ),
            {"ours": OURS},
        )
        await connection.execute(sa.text("ANALYZE conversations"))


async def test_changes_of_a_conversation_come_newest_first_page_by_page(stub: Any, seed: Seed) -> None:
    thread = await seed.conversation()
    other = await seed.conversation("+15550001111")
    for number in range(3):
        await seed.change(thread, old_value=str(number), new_value=str(number + 1), confidence=0.5)
    await seed.change(other, type="tenant_linked", new_value="t1", source="monitor")
    seen: list[str] = []
    token = ""
    while True:
        page = await stub.ListConversationChanges(
            pb.ListConversationChangesRequest(conversation_id=thread, page_size=2, page_token=token)
        )
        assert all(change.confidence == 0.5 for change in page.changes)
        seen += [f"{change.old_value}>{change.new_value}" for change in page.changes]
        token = page.next_page_token
        if not token:
            break
    assert seen == ["2>3", "1>2", "0>1"]
    (linked,) = (
        await stub.ListConversationChanges(pb.ListConversationChangesRequest(conversation_id=other))
    ).changes
    assert (linked.type, linked.old_value, linked.new_value, linked.source) == (
        "tenant_linked", "", "t1", "monitor"
    )  # fmt: skip
    quiet = await seed.conversation("+15550002222")
    nothing = await stub.ListConversationChanges(pb.ListConversationChangesRequest(conversation_id=quiet))
    assert not nothing.changes
