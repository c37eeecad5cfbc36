"""Search through a real server, over rows that the indexer has made."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import grpc
import pytest
import sqlalchemy as sa

from posthouse.v1 import conversation_service_pb2 as pb
from services.conversation.indexer import SearchIndexer
from services.kit.ids import NO_ID, new_id
from services.ledger.database import Database
from services.ledger.erasing import drop_conversations
from services.ledger.tables import conversations, message_search, messages, search_progress

from .conftest import CONTACT, OURS, Seed

pytestmark = pytest.mark.integration

Find = Callable[..., Awaitable[list[str]]]

_LATE = search_progress.c.name == "late"


@pytest.fixture
def indexer(database: Database) -> SearchIndexer:
    return SearchIndexer(database, share=1.0, settle=-1.0, late=-1.0)


@pytest.fixture
def find(stub: Any, indexer: SearchIndexer) -> Find:
    """Return a function that brings search up to date and returns the ids found."""

    async def found(query: str, **fields: Any) -> list[str]:
        while await indexer.run_once():
            pass
        response = await stub.SearchMessages(pb.SearchMessagesRequest(query=query, **fields))
        return [hit.message.id for hit in response.hits]

    return found


async def test_words_of_bodies_and_subjects_without_case_and_accents(seed: Seed, find: Find) -> None:
    thread = await seed.conversation()
    first = await seed.message(thread, body="La reunión es MAÑANA, señor Núñez.")
    second = await seed.message(thread, body="see attached", subject="Reunion notes", channel="email")
    decomposed = await seed.message(thread, body="Une re\u0301union brève à Łódź, Straße 5")
    assert await find("reunion") == [decomposed, second, first]
    assert await find("RÉUNION mañana") == [first]
    assert await find("manana nunez") == [first]
    assert await find("lodz strasse") == [decomposed]
    assert await find("nothing") == []


async def test_phrase_prefix_and_exclusion(seed: Seed, find: Find) -> None:
    thread = await seed.conversation()
    first = await seed.message(thread, body="The quick brown fox of room 101-a")
    second = await seed.message(thread, body="A brown, quick hare")
    assert await find('"quick brown"') == [first]
    assert await find("quick brown") == [second, first]
    assert await find("bro*") == [second, first]
    assert await find("bro") == []
    assert await find('"quick bro*"') == []
    assert await find("quick -hare") == [first]
    assert await find('brown -"quick brown"') == [second]
    assert await find("101-a") == [first]
    assert await find("brown -qui*") == []


@pytest.mark.parametrize(
    "query",
    [
        "+15559876543",
        "(555) 987-6543",
        "555 987 6543",
        "+1 555-987-6543",
        "15559876543",
        "1555987*",
        "acme",
        "Acme GmbH",
    ],
)
async def test_addresses_and_tenants(seed: Seed, find: Find, query: str) -> None:
    ours = await seed.message(await seed.conversation(tenant_id="Acme-GmbH"))
    mail = await seed.conversation("ann.lee@example.com", "desk@example.org", "email")
    other = await seed.message(
        mail, sender="ann.lee@example.com", recipient="desk@example.org", channel="email", body="call 987"
    )
    assert await find(query) == [ours]
    assert await find("ann.lee@example.com") == [other]
    assert await find("ann") == [other]
    assert await find("example.org") == [other]


async def test_a_number_in_a_body(seed: Seed, find: Find) -> None:
    thread = await seed.conversation("+15550001111")
    body = {"sender": "+15550001111", "body": "Call me at (555) 987-6543 please"}
    assert await find("555-987-6543") == []
    message = await seed.message(thread, **body)
    assert await find("555-987-6543") == [message]


async def test_endings_count_as_the_language_has_them(seed: Seed, find: Find) -> None:
    english = await seed.conversation(language="en")
    unknown = await seed.conversation("+15550001111")
    first = await seed.message(english, body="We were running late with the bookings")
    second = await seed.message(unknown, body="running late")
    spanish = await seed.conversation("+15550002222", language="es")
    third = await seed.message(spanish, body="Las habitaciones están cerradas")
    assert await find("booking") == [first]
    assert await find("runs") == [first]
    assert await find("running") == [second, first]
    assert await find('"runs late"') == []
    assert await find("habitación") == [third]
    # What is excluded is excluded in every form.
    assert await find("late -run") == [second]
    assert await find("late -running") == []


async def test_html_is_searched_where_it_is_all_there_is(seed: Seed, find: Find) -> None:
    thread = await seed.conversation()
    html = "<style>p {color: red}</style><p>Welcome&nbsp;home</p>"
    message = await seed.message(thread, body="", html=html)
    assert await find('"welcome home"') == [message]
    assert await find("color") == []


async def test_a_tenant_linked_later_is_found(seed: Seed, find: Find, database: Database) -> None:
    thread = await seed.conversation()
    message = await seed.message(thread, body="Las reuniones")
    assert await find("acme") == []
    async with database.write() as connection:
        await connection.execute(sa.update(conversations).values(tenant_id="acme", language="es"))
    assert await find("acme") == [message]
    assert await find("reunion") == [message]


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


@pytest.mark.parametrize("query", ["", "  ", "?!", "-hello", '""', "x" * 501, "a " * 33, "a\x00b"])
async def test_queries_that_say_nothing(stub: Any, refusal: Callable[[Any], Any], query: str) -> None:
    error = await refusal(stub.SearchMessages(pb.SearchMessagesRequest(query=query)))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert [violation.field for violation in error.violations] == ["query"]


@pytest.mark.parametrize(
    "query", ["a'b", "a & | ! <->", "a:*", "a\\", '"a', "a)b(", "((a", "%s", "a -- b", "a''; DROP"]
)
async def test_no_query_is_taken_for_syntax(seed: Seed, find: Find, query: str) -> None:
    message = await seed.message(await seed.conversation(), body='a b s drop \'\\ "quoted"')
    assert await find(query) == [message]


async def test_highlights(stub: Any, seed: Seed, find: Find) -> None:
    thread = await seed.conversation(language="en")
    long = "filler " * 60 + "The Café bookings were Closed, closed for good." + " more" * 60
    await seed.message(thread, body=long)
    await find("cafe")

    async def highlight(query: str) -> str:
        response = await stub.SearchMessages(pb.SearchMessagesRequest(query=query))
        return str(response.hits[0].highlight)

    found = await highlight("cafe booking -nothing")
    assert "The «Café» «bookings» were Closed" in found
    assert found.startswith("… filler")
    assert found.endswith(" …")
    assert "«Closed», «closed» for" in await highlight("clos*")
    assert (await highlight("5559876543")).startswith("filler filler")


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


async def _words(database: Database) -> int:
    async with database.read() as connection:
        return (await connection.execute(sa.select(sa.func.count()).select_from(message_search))).scalar_one()


async def test_what_is_deleted_while_it_is_indexed_leaves_no_words(
    seed: Seed, find: Find, indexer: SearchIndexer, database: Database
) -> None:
    thread = await seed.conversation()
    kept, gone = [await seed.message(thread, body="some words") for _ in range(2)]
    assert await find("words") == [gone, kept]
    async with database.write() as connection:
        # As if the deletion had come between the reading of the message and the writing of its words.
        await connection.execute(sa.delete(messages).where(messages.c.id == gone))
        await connection.execute(sa.update(search_progress).values(position=NO_ID).where(_LATE))
    await indexer.run_once()
    assert await _words(database) == 1
    assert await find("words") == [kept]


async def test_a_deleted_conversation_leaves_no_words(
    seed: Seed, find: Find, indexer: SearchIndexer, database: Database
) -> None:
    thread, other = await seed.conversation(), await seed.conversation("+15559870001")
    gone, kept = await seed.message(thread, body="some words"), await seed.message(other, body="some words")
    assert await find("words") == [kept, gone]
    async with database.write() as connection:
        await connection.execute(sa.delete(messages).where(messages.c.id == gone))
    await database.start()
    async with database.hot() as hot:
        assert await drop_conversations(hot, [thread]) == 1
    await indexer.run_once()
    assert await _words(database) == 1
    assert await find("words") == [kept]


async def test_what_was_committed_late_is_found(seed: Seed, find: Find, database: Database) -> None:
    thread = await seed.conversation()
    early = await seed.message(thread, body="late one")
    later = await seed.message(thread, body="late two")
    assert await find("late") == [later, early]
    async with database.write() as connection:
        await connection.execute(sa.delete(message_search).where(message_search.c.message_id == early))
        await connection.execute(
            sa.text("UPDATE search_progress SET position = :zero WHERE name = 'late'"), {"zero": "0" * 32}
        )
    assert await find("late") == [later, early]


async def test_two_indexers_share_the_work(database: Database, seed: Seed, indexer: SearchIndexer) -> None:
    thread = await seed.conversation()
    await seed.message(thread)
    await indexer.run_once()
    async with database.write() as held:
        await held.execute(sa.text("SELECT * FROM search_progress FOR UPDATE"))
        await seed.message(thread)
        # Another one has the locks: nothing to do here, and nothing to wait for.
        assert await SearchIndexer(database, share=1.0, settle=-1.0, late=-1.0).run_once() == 0
    while await indexer.run_once():
        pass
    async with database.read() as connection:
        counted = [
            await connection.scalar(sa.select(sa.func.count()).select_from(t))
            for t in (messages, message_search)
        ]
    assert counted == [2, 2]
