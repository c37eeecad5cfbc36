"""Filters and pages of what is found by words, through a real server."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import grpc
import pytest
import sqlalchemy as sa

from posthouse.v1 import conversation_service_pb2 as pb
from services.kit.ids import new_id
from services.ledger.database import Database
from services.ledger.tables import conversations, messages

from .conftest import CONTACT, OURS, Find, Seed

pytestmark = pytest.mark.integration


async def test_filters(seed: Seed, find: Find) -> None:
    mine = await seed.conversation(tenant_id="t1")
    first = await seed.message(mine, body="hello")
    other = await seed.conversation("+15550001111", tenant_id="t2")
    second = await seed.message(other, body="hello", sender="+15550001111")
    assert await find("hello") == [second, first]
    assert await find("hello", conversation_id=mine) == [first]
    assert await find("hello", participant="(555) 000-1111 ") == [second]
    assert await find("hello", participant=OURS) == [second, first]
    assert await find("hello", tenant_id="t1") == [first]
    assert await find("hello", tenant_id="t1", participant="+15550001111") == []
    assert await find("hello", tenant_id="t3") == []


@pytest.mark.parametrize("few", [0, 1000])
async def test_many_conversations_are_filtered_too(
    seed: Seed, find: Find, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr("services.conversation.search._FEW_MESSAGES", few)
    monkeypatch.setattr("services.conversation.search.RECENT", 1)
    first = await seed.message(await seed.conversation(), body="hello")
    await seed.message(await seed.conversation("+15550001111"), body="hello", sender="+15550001111")
    assert await find("hello", participant=CONTACT) == [first]


async def test_pages_within_a_tenant_of_many_conversations_are_whole(
    stub: Any, seed: Seed, find: Find, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many that PostgreSQL makes a hash of what was walked, which keeps no order."""
    monkeypatch.setattr("services.conversation.search._FEW_MESSAGES", 0)
    await seed.message(await seed.conversation())
    async with database.write() as connection:
        rows = [
            (await connection.execute(sa.select(table))).mappings().one()
            for table in (conversations, messages)
        ]
        thread, text = map(dict, rows)
        threads = [
            {**thread, "id": str(uuid4()), "participant_b": f"+1555{n:07}", "tenant_id": f"t{n % 3}"}
            for n in range(3000)
        ]
        made = [
            {
                **text,
                "id": new_id(),
                "conversation_id": threads[n]["id"],
                "body": "red car" if n % 24 == 1 else "hello",
            }
            for n in range(3000)
        ]
        await connection.execute(sa.insert(conversations), threads)
        await connection.execute(sa.insert(messages), made)
    await find("hello")
    async with database.write() as connection:
        await connection.execute(sa.text("ANALYZE conversations, message_search"))
    seen, token = [], ""
    while True:
        page = await stub.SearchMessages(
            pb.SearchMessagesRequest(query="red", tenant_id="t1", page_size=20, page_token=token)
        )
        seen += [hit.message.id for hit in page.hits]
        token = page.next_page_token
        if not token:
            break
    assert seen == [row["id"] for n, row in enumerate(made) if n % 24 == 1][::-1]


# With little enough, a page is cut short where the next window would begin.
@pytest.mark.parametrize(("recent", "enough"), [(3, 1), (3, 20), (8000, 20)])
async def test_pages_hold_still_while_messages_arrive(
    stub: Any,
    seed: Seed,
    find: Find,
    refusal: Callable[[Any], Any],
    monkeypatch: pytest.MonkeyPatch,
    recent: int,
    enough: int,
) -> None:
    monkeypatch.setattr("services.conversation.search.RECENT", recent)
    monkeypatch.setattr("services.conversation.search._ENOUGH", enough)
    monkeypatch.setattr("services.conversation.search._MOST", 0.5)
    thread = await seed.conversation()
    made = [await seed.message(thread, body=f"hello {'there' if n % 2 else ''} {n}") for n in range(7)]
    expected = [message for n, message in enumerate(made) if n % 2][::-1]
    found = await find("there")
    assert found == expected[: len(found)]
    seen, token = [], ""
    while True:
        page = await stub.SearchMessages(
            pb.SearchMessagesRequest(query="there", page_size=2, page_token=token)
        )
        seen += [hit.message.id for hit in page.hits]
        await seed.message(thread, body="there is more")
        await find("more")
        token = page.next_page_token
        if not token:
            break
    assert seen == expected
    page = await stub.SearchMessages(pb.SearchMessagesRequest(query="there", page_size=2))
    for other in ({"query": "hello"}, {"query": "there", "tenant_id": "t"}):
        error = await refusal(
            stub.SearchMessages(pb.SearchMessagesRequest(page_token=page.next_page_token, **other))
        )
        assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")
    error = await refusal(stub.SearchMessages(pb.SearchMessagesRequest(query="x", page_token="x")))
    assert error.reason == "INVALID_PAGE_TOKEN"


# A phrase that is in enough of the newest rows has more of them looked through before the index is asked.
@pytest.mark.parametrize(("phrases", "rows", "enough"), [(1, 4, 2), (1, 3, 20), (1, 100, 20), (9, 100, 2)])
async def test_pages_of_a_phrase_are_whole(
    stub: Any,
    seed: Seed,
    find: Find,
    monkeypatch: pytest.MonkeyPatch,
    phrases: int,
    rows: int,
    enough: int,
) -> None:
    settings = {"RECENT": 3, "_PHRASES": phrases, "_PHRASE_ROWS": rows, "_PHRASE_ENOUGH": enough}
    for name, value in settings.items():
        monkeypatch.setattr(f"services.conversation.search.{name}", value)
    thread = await seed.conversation()
    bodies = ("red car" if n % 2 else "car red" for n in range(20))
    made = [await seed.message(thread, body=body) for body in bodies]
    await find("car")
    seen, token = [], ""
    while True:
        page = await stub.SearchMessages(
            pb.SearchMessagesRequest(query='"red car"', page_size=4, page_token=token)
        )
        seen += [hit.message.id for hit in page.hits]
        token = page.next_page_token
        if not token:
            break
    assert seen == made[1::2][::-1]


# Common words, others, and rare ones are found in ways of their own.
@pytest.mark.parametrize(("common", "middling"), [(10, 10), (10, 1), (1, 1)])
async def test_list_conversations_by_text(
    stub: Any, seed: Seed, find: Find, monkeypatch: pytest.MonkeyPatch, common: int, middling: int
) -> None:
    monkeypatch.setattr("services.conversation.text_filter._COMMON", common)
    monkeypatch.setattr("services.conversation.text_filter._MIDDLING", middling)
    first, second = await seed.conversation(), await seed.conversation("+15550001111")
    third = await seed.conversation("+15550002222")
    for thread in (first, second, first):
        await seed.message(thread, body="Über reservations")
    await seed.message(third, body="nothing")
    await find("uber")
    page = await stub.ListConversations(pb.ListConversationsRequest(text='"uber reservations"', page_size=1))
    assert [found.id for found in page.conversations] == [first]
    page = await stub.ListConversations(
        pb.ListConversationsRequest(text='"uber reservations"', page_token=page.next_page_token)
    )
    assert [found.id for found in page.conversations] == [second]
    assert not page.next_page_token
    page = await stub.ListConversations(
        pb.ListConversationsRequest(text="uber", participant="+15550001111", page_size=1)
    )
    assert [found.id for found in page.conversations] == [second]
    page = await stub.ListConversations(pb.ListConversationsRequest(text="reserv", page_size=1))
    assert not page.conversations
