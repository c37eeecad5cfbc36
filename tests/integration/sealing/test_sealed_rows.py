"""What is written with keys is sealed, and opens for whoever has them, wherever it is read."""

import base64
from typing import Any

import orjson
import pytest

from services.conversation import indexing, languages
from services.conversation.queries import list_conversation_messages
from services.conversation.search import Search, search_messages
from services.conversation.search_query import read_query
from services.kit.ids import new_id
from services.kit.keyring import PLAIN, ContentDamagedError, KeyMissingError, Keyring
from services.ledger.erasing import delete_messages
from services.ledger.idempotency import load_answers
from services.ledger.mail_threads import load_threads
from services.ledger.reads import get_message, list_messages
from services.ledger.receipts import WebhookLog, log_webhooks
from services.ledger.webhook_logs import get_log
from tests.integration.ledger.rows import CONTACT, Book, make_draft, make_inbound

from .conftest import BODY, HTML, LABEL, MEDIA, SUBJECT, OpenDatabase, everything, found_in, ring

pytestmark = pytest.mark.integration

EMAIL = {"channel": "email", "sender": "desk@example.com", "recipient": "ann@example.org"}
CANARIES = (BODY, SUBJECT, HTML, MEDIA, LABEL)


def email(**fields: Any) -> Any:
    return make_draft(
        **{
            **EMAIL,
            "body": f"Dear Ann, {BODY}",
            "subject": f"About {SUBJECT}",
            "html": f"<p>{HTML}</p>",
            "attachments": orjson.dumps(
                [
                    {
                        "content_type": "text/plain",
                        "filename": "a.txt",
                        "content": base64.b64encode(MEDIA).decode(),
                    }
                ]
            ).decode(),
            "metadata": orjson.dumps({"case": LABEL}).decode(),
            **fields,
        }
    )


def request() -> WebhookLog:
    return WebhookLog(
        id=new_id(),
        provider="simulator",
        method="POST",
        url=f"http://127.0.0.1/hook?Body={SUBJECT}",
        headers=orjson.dumps({"x-told": LABEL}).decode(),
        body=b"\x00\xff" + BODY.encode(),
        remote_address="127.0.0.1",
        verdict="accepted",
    )


async def test_nothing_of_what_was_written_is_in_the_database(
    open_database: OpenDatabase, database_url: str
) -> None:
    database = await open_database(ring("one"))
    book = Book(database)
    log = request()
    await book.accept(email(), make_draft(body=BODY))
    async with database.hot() as connection:
        await log_webhooks(connection, [log])
    assert found_in(everything(database_url), *CANARIES) == []
    assert await book.rows("SELECT DISTINCT sealed_by FROM messages") == [("one",)]
    async with database.read() as connection:
        kept = await get_log(connection, log.id)
    assert kept is not None
    assert (kept.url, kept.headers, kept.body) == (log.url, {"x-told": LABEL}, log.body)


async def test_the_search_for_canaries_finds_what_is_there(
    open_database: OpenDatabase, database_url: str
) -> None:
    database = await open_database(PLAIN)
    await Book(database).accept(email())
    async with database.hot() as connection:
        await log_webhooks(connection, [request()])
    assert set(found_in(everything(database_url), *CANARIES)) == {BODY, SUBJECT, HTML, LABEL, MEDIA.decode()}


async def test_whoever_reads_gets_what_was_written(open_database: OpenDatabase) -> None:
    database = await open_database(ring("one", "two"))
    book = Book(database)
    (claimed,) = await book.claimed(email())
    assert (claimed.subject, claimed.html) == (f"About {SUBJECT}", f"<p>{HTML}</p>")
    assert claimed.body == f"Dear Ann, {BODY}"
    assert claimed.attachments is not None
    assert base64.b64decode(claimed.attachments[0]["content"]) == MEDIA
    async with database.read() as connection:
        one = await get_message(connection, claimed.id)
        (listed,) = await list_messages(connection, limit=10)
        (told,), _ = await list_conversation_messages(
            connection, claimed.conversation_id, after=None, limit=10
        )
    assert one is not None
    assert (one.subject, one.body, one.html) == (claimed.subject, claimed.body, claimed.html)
    assert one.attachments[0].content == MEDIA
    assert one.metadata == {"case": LABEL}
    assert one.content_error == ""
    assert one == listed == told


async def test_absent_parts_stay_absent_and_empty_ones_empty(open_database: OpenDatabase) -> None:
    database = await open_database(ring("one"))
    await Book(database).accept(make_draft(body=""))
    row = "SELECT subject, html, attachments, metadata FROM messages"
    assert await Book(database).rows(row) == [(None, None, None, None)]
    async with database.read() as connection:
        (message,) = await list_messages(connection, limit=10)
    assert (message.body, message.content_error) == ("", "")


async def test_rows_from_before_stay_readable_and_those_without_their_key_spoil_no_list(
    open_database: OpenDatabase,
) -> None:
    for keyring, body in ((PLAIN, "plain"), (ring("one"), "first"), (ring("two"), "second")):
        await Book(await open_database(keyring)).accept(make_draft(body=body))
    with_both = await open_database(ring("two", "one", seals=False))
    async with with_both.read() as connection:
        assert [m.body for m in await list_messages(connection, limit=10)] == ["second", "first", "plain"]
    with_one = await open_database(ring("two"))
    async with with_one.read() as connection:
        listed = await list_messages(connection, limit=10)
        assert [m.body for m in listed] == ["second", "", "plain"]
        assert [bool(m.content_error) for m in listed] == [False, True, False]
        assert "the key one, which is not configured" in listed[1].content_error
        with pytest.raises(KeyMissingError, match="the key one, which is not configured"):
            await get_message(connection, listed[1].id)


async def test_what_was_moved_to_another_row_does_not_open(open_database: OpenDatabase) -> None:
    database = await open_database(ring("one"))
    book = Book(database)
    await book.accept(make_draft(body="pay Ann"), make_draft(body="pay Bob"))
    await book.rows("UPDATE messages SET body = (SELECT body FROM messages ORDER BY id LIMIT 1)")
    async with database.read() as connection:
        second, first = await list_messages(connection, limit=10)
        assert (first.body, second.body) == ("pay Ann", "")
        assert "is not what was sealed there" in second.content_error
        with pytest.raises(ContentDamagedError):
            await get_message(connection, second.id)


@pytest.mark.parametrize("keyring", [ring("one"), ring("two", "one"), ring("one", seals=False)])
async def test_a_repeat_is_known_whichever_key_its_first_was_sealed_with(
    open_database: OpenDatabase, keyring: Keyring
) -> None:
    digest, other = b"0123456789abcdef", b"0123456789abcdee"
    await Book(await open_database(ring("one"))).accept(
        make_draft(request_id="sealed", request_hash=digest), caller="ann"
    )
    await Book(await open_database(PLAIN)).accept(
        make_draft(request_id="plain", request_hash=digest), caller="ann"
    )
    database = await open_database(keyring)
    async with database.read() as connection:
        answers = await load_answers(connection, "ann", ["sealed", "plain"])
    assert [answers[key].answers(digest) for key in ("sealed", "plain")] == [True, True]
    assert [answers[key].answers(other) for key in ("sealed", "plain")] == [False, False]
    # Whoever has the ledger alone cannot try out what was sent.
    (stored,) = await Book(database).rows(
        "SELECT request_hash FROM idempotency_keys WHERE request_id = 'sealed'"
    )
    assert digest not in bytes(stored[0])


async def test_languages_are_read_from_what_is_sealed(open_database: OpenDatabase) -> None:
    database = await open_database(ring("one"))
    book = Book(database)
    await book.accept(
        make_inbound("1", body="Sí, gracias"), make_inbound("2", body="", subject="Obrigado", channel="email")
    )
    ids = [row[0] for row in await book.rows("SELECT id::text FROM messages ORDER BY id")]
    async with database.hot() as connection:
        assert sorted(await languages.read_texts(connection, ids)) == [
            (ids[0], "Sí, gracias"),
            (ids[1], "Obrigado"),
        ]
    # Who lacks the key leaves them to others.
    without = await open_database(ring("two"))
    async with without.hot() as connection:
        assert await languages.read_texts(connection, ids) == []


async def test_search_finds_sealed_messages_by_address_alone(
    open_database: OpenDatabase, database_url: str
) -> None:
    database = await open_database(ring("one"))
    book = Book(database)
    await book.accept(make_draft(body=f"sealed {BODY}"))
    await Book(await open_database(PLAIN)).accept(make_draft(body="open words"))
    # As if it were known: stems of sealed words would be in the index with it.
    await book.rows("UPDATE conversations SET language = 'en', tenant_id = 'tenant9'")
    assert await indexing.index_newest(database, settle=-1.0) == 2

    async def bodies(query: str) -> list[str]:
        async with database.read() as connection:
            hits, _ = await search_messages(
                connection, Search(read_query("query", query)), before=None, limit=10
            )
        return [hit.message.body for hit in hits]

    assert await bodies("words") == ["open words"]
    assert await bodies(BODY) == []
    for query in (f'"{CONTACT}"', "tenant9"):
        assert sorted(await bodies(query)) == ["open words", f"sealed {BODY}"]
    assert found_in(everything(database_url), BODY) == []


async def test_an_answer_names_the_sealed_mail_it_answers(open_database: OpenDatabase) -> None:
    labels = {"message_id_header": "<2@example.org>", "references": "<1@example.org>"}
    came = {"channel": "email", "sender": EMAIL["recipient"], "recipient": EMAIL["sender"]}
    database = await open_database(ring("one"))
    book = Book(database)
    await book.accept(make_inbound("1", metadata=orjson.dumps(labels).decode(), **came))
    (answer,) = await book.claimed(email())
    for keyring, references in (
        (ring("one"), ("<1@example.org>", "<2@example.org>")),
        (ring("two"), None),
    ):
        opened = await open_database(keyring)
        async with opened.hot() as connection:
            threads = await load_threads(connection, {answer.id: answer.conversation_id})
        assert (threads[answer.id].references if threads else None) == references


async def test_erasing_needs_no_key(open_database: OpenDatabase) -> None:
    await Book(await open_database(ring("one"))).accept(make_draft(body=BODY))
    database = await open_database(PLAIN)
    book = Book(database)
    ids = [row[0] for row in await book.rows("SELECT id::text FROM messages")]
    async with database.hot() as connection:
        deleted = await delete_messages(connection, ids)
    assert deleted.messages == 1
    assert await book.value("SELECT count(*) FROM messages") == 0
