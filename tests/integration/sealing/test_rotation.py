"""Keys are changed from the command line, whatever was stored before and is stored meanwhile."""

import asyncio
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from services.conversation import indexing
from services.kit.ids import NO_ID
from services.kit.keyring import PLAIN
from services.ledger import resealing
from services.ledger.reads import list_messages
from services.ledger.receipts import log_webhooks
from services.ledger.sealing import MESSAGES
from services.ledger.webhook_logs import get_log
from tests.integration.ledger.rows import Book, make_draft

from .conftest import BODY, LABEL, SUBJECT, OpenDatabase, everything, found_in, key_text, ring
from .test_sealed_rows import CANARIES, email, request

pytestmark = pytest.mark.integration


@pytest.fixture
def posthouse(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs `posthouse encryption` with keys, beside what the test does."""
    monkeypatch.setenv("DATABASE_URL", database_url)

    async def run(*arguments: str, keys: str, seal: bool = True) -> Any:
        environment = {"POSTHOUSE_ENCRYPTION_KEYS": keys, "POSTHOUSE_ENCRYPTION_SEAL": str(seal)}
        return await asyncio.to_thread(
            CliRunner().invoke, app, ["encryption", *arguments], env=environment, catch_exceptions=False
        )

    return run


async def test_what_was_stored_before_is_sealed_and_its_words_leave_the_index(
    open_database: OpenDatabase, database_url: str, posthouse: Any
) -> None:
    plain = await open_database(PLAIN)
    book = Book(plain)
    log = request()
    await book.accept(email(), make_draft(body=BODY), make_draft(body="hello"))
    async with plain.hot() as connection:
        await log_webhooks(connection, [log])
    await indexing.index_newest(plain, settle=-1.0)
    assert BODY in everything(database_url)
    done = await posthouse("rotate", keys=key_text("one"))
    assert done.exit_code == 0, done.output
    assert "messages: 3 done" in done.output
    assert "webhook_logs: 1 done" in done.output
    assert found_in(everything(database_url), *CANARIES) == []
    database = await open_database(ring("one"))
    # Their addresses are found again as soon as the indexer has come by.
    while await indexing.index_stale(database):
        pass
    assert found_in(everything(database_url), *CANARIES) == []
    assert await book.value("SELECT count(*) FROM message_search") == 3
    async with database.read() as connection:
        _, second, first = await list_messages(connection, limit=10)
        kept = await get_log(connection, log.id)
    assert (second.body, first.metadata, first.subject) == (BODY, {"case": LABEL}, f"About {SUBJECT}")
    assert kept is not None
    assert (kept.url, kept.headers, kept.body) == (log.url, {"x-told": LABEL}, log.body)


async def test_a_new_key_takes_over_and_the_old_one_is_not_needed_any_more(
    open_database: OpenDatabase, posthouse: Any
) -> None:
    old = Book(await open_database(ring("one")))
    await old.accept(email(request_id="key", request_hash=b"0123456789abcdef"))
    before = await posthouse("status", keys=key_text("two", "one"))
    assert before.output.splitlines()[0] == "New content is encrypted with two."
    assert [line.split() for line in before.output.splitlines()[1:]] == [
        ["messages", "1", "encrypted", "with", "one"],
        ["idempotency_keys", "1", "encrypted", "with", "one"],
    ]
    assert (await posthouse("rotate", keys=key_text("two", "one"))).exit_code == 0
    assert await old.rows("SELECT sealed_by FROM messages") == [("two",)]
    alone = await open_database(ring("two"))
    async with alone.read() as connection:
        (message,) = await list_messages(connection, limit=10)
    assert (message.subject, message.content_error) == (f"About {SUBJECT}", "")
    # What cannot be changed says that the old key is still wanted.
    after = await posthouse("status", keys=key_text("two"))
    assert [line.split(maxsplit=4)[1:] for line in after.output.splitlines()[1:]] == [
        ["1", "encrypted", "with", "two"],
        ["1", "encrypted", "with", "one  THE KEY IS NOT CONFIGURED"],
    ]


async def test_what_cannot_be_opened_is_left_and_said(open_database: OpenDatabase, posthouse: Any) -> None:
    book = Book(await open_database(ring("one")))
    await book.accept(make_draft(body="lost"))
    await Book(await open_database(PLAIN)).accept(make_draft(body="hello"))
    done = await posthouse("rotate", keys=key_text("two"))
    assert done.exit_code == 1
    assert "messages: 1 done" in done.output
    assert "is sealed with the key one, which is not configured" in done.output
    assert await book.rows("SELECT sealed_by FROM messages ORDER BY id") == [("one",), ("two",)]


async def test_encryption_can_be_taken_back(open_database: OpenDatabase, posthouse: Any) -> None:
    sealed = await open_database(ring("one"))
    book = Book(sealed)
    log = request()
    await book.accept(email())
    async with sealed.hot() as connection:
        await log_webhooks(connection, [log])
    await indexing.index_newest(sealed, settle=-1.0)
    refused = await posthouse("rotate", "--decrypt", keys=key_text("one"))
    assert refused.exit_code == 1
    assert "POSTHOUSE_ENCRYPTION_SEAL" in refused.output
    for keys in ("", key_text("one")):
        refused = await posthouse("rotate", keys=keys, seal=False)
        assert refused.exit_code == 1
        assert "POSTHOUSE_ENCRYPTION_KEYS: must be set" in refused.output
    assert (await posthouse("rotate", "--decrypt", keys=key_text("one"), seal=False)).exit_code == 0
    plain = await open_database(PLAIN)
    async with plain.read() as connection:
        (message,) = await list_messages(connection, limit=10)
        kept = await get_log(connection, log.id)
    assert (message.subject, message.metadata) == (f"About {SUBJECT}", {"case": LABEL})
    assert kept is not None
    assert kept.body == log.body
    while await indexing.index_stale(plain):
        pass
    assert BODY in await book.value("SELECT vector::text FROM message_search")


async def test_a_row_that_somebody_works_on_is_left_for_the_next_pass(open_database: OpenDatabase) -> None:
    database = await open_database(ring("one"))
    book = Book(await open_database(PLAIN))
    await book.accept(make_draft(body="held"), make_draft(body="free"))
    first = await book.value("SELECT id::text FROM messages ORDER BY id LIMIT 1")
    async with database.hot() as holder, holder.transaction():
        await holder.execute("UPDATE messages SET state = 'sending' WHERE id = %s", (first,))
        async with database.hot() as connection:
            progress = await resealing.reseal(connection, MESSAGES, after=NO_ID)
    assert (progress.done, progress.skipped) == (1, 1)
    async with database.hot() as connection:
        progress = await resealing.reseal(connection, MESSAGES, after=NO_ID)
    assert (progress.done, progress.skipped) == (1, 0)
    assert await book.rows("SELECT state, sealed_by FROM messages ORDER BY id") == [
        ("sending", "one"),
        ("pending", "one"),
    ]


async def test_a_batch_ends_before_it_fills_the_memory(
    open_database: OpenDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resealing, "_MOST_BYTES", 100)
    database = await open_database(ring("one"))
    await Book(await open_database(PLAIN)).accept(*(make_draft(body=f"{n}" * 90) for n in range(4)))
    after, sizes = NO_ID, []
    while True:
        async with database.hot() as connection:
            progress = await resealing.reseal(connection, MESSAGES, after=after)
        if progress.last_id is None:
            break
        after = progress.last_id
        sizes.append(progress.done)
    assert sizes == [2, 2]
