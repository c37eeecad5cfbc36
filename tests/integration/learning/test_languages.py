"""Languages: the surer guess wins, then the later; each message once; nothing lost with the broker."""

import itertools
from datetime import timedelta

import pytest

from posthouse.v1 import conversation_service_pb2 as conversation_pb
from services.conversation.language import UNKNOWN, Guess
from services.conversation.languages import note_guesses, read_texts
from services.conversation.listening import Listener
from services.ledger.database import Database
from tests.integration.learning.conftest import Read, Town
from tests.integration.ledger.rows import CONTACT, Book, eventually, make_inbound
from tests.servers import NatsForTests

pytestmark = pytest.mark.integration

GUESSES = [Guess("es", 0.7), Guess("en", 0.95), UNKNOWN, Guess("pt", 0.5), Guess("es", 0.95)]


@pytest.mark.parametrize("order", list(itertools.permutations(range(5)))[::17])
async def test_the_order_of_guesses_does_not_matter(
    database_url: str, book: Book, order: tuple[int, ...]
) -> None:
    database = Database(database_url, pool_size=8, timeout=60, name="test")
    await database.start()
    drafts = [make_inbound(f"e{number}") for number in range(5)]
    await book.accept(*drafts)
    rows = await book.rows("SELECT id::text FROM messages ORDER BY id")
    ids = [row[0] for row in rows]
    for number, message_id in enumerate(ids):
        await book.rows(
            "UPDATE messages SET message_time = message_time + %s WHERE id = %s",
            timedelta(seconds=number),
            message_id,
        )
    for number in order:
        for _ in range(2):
            async with database.hot() as connection:
                await note_guesses(connection, [(ids[number], GUESSES[number])])
    found = await book.rows("SELECT language, language_confidence FROM conversations")
    assert found == [("es", 0.95)]
    kept = await book.rows("SELECT language, language_confidence FROM messages ORDER BY id")
    assert [Guess(*row) for row in kept] == GUESSES
    audit = await book.rows("SELECT old_value, new_value FROM conversation_events ORDER BY id")
    languages = [None, *(new for _, new in audit)]
    assert [old for old, _ in audit] == languages[:-1]
    assert languages[-1] == "es"
    async with database.hot() as connection:
        assert await read_texts(connection, ids) == []
    await database.close()


async def test_message_and_conversation_say_how_sure_it_is(town: Town, book: Book, read: Read) -> None:
    stub = await town.converse()
    conversation = (await town.says("Hola, ¿cuándo tengo que pagar la renta?")).conversation_id
    await eventually(lambda: book.value("SELECT count(*) FROM conversations WHERE language = 'es'"))
    assert (await read(stub, conversation)).language_confidence == 0.95
    await town.says("ok")
    await town.says("Sorry, I mean when is the rent due?")
    await eventually(lambda: book.value("SELECT count(*) FROM conversations WHERE language = 'en'"))
    assert await book.rows("SELECT language, language_confidence FROM messages ORDER BY id") == [
        ("es", 0.95),
        (None, 0.0),
        ("en", 0.95),
    ]
    answer = await stub.ListConversationChanges(
        conversation_pb.ListConversationChangesRequest(conversation_id=conversation)
    )
    assert [(change.old_value, change.new_value, change.source) for change in answer.changes] == [
        ("es", "en", "message"),
        ("", "es", "message"),
    ]
    texts = await book.rows("SELECT id::text FROM messages ORDER BY id")
    assert answer.changes[0].message_id == texts[2][0]


async def test_what_the_broker_has_lost_is_read_from_the_ledger(
    town: Town, book: Book, nats_server: NatsForTests
) -> None:
    await town.says("muchas gracias", sender=CONTACT)
    # Published, as far as the ledger knows, and then gone.
    await eventually(lambda: book.value("SELECT count(*) = 0 FROM outbox"))
    nats_server.kill(delete_store=True)
    nats_server.start()
    await town.converse()
    await eventually(lambda: book.value("SELECT count(*) FROM conversations WHERE language = 'es'"))


async def test_the_ledger_is_read_to_its_end(
    database_url: str, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.conversation.listening._CATCH_UP", 3)
    database = Database(database_url, pool_size=8, timeout=60, name="test")
    await database.start()
    await book.accept(
        *(
            make_inbound(f"e{number}", body="thank you", sender=f"+155598700{number:02}")
            for number in range(10)
        )
    )
    await Listener(database).catch_up()
    assert await book.value("SELECT count(*) FROM conversations WHERE language = 'en'") == 10
    await database.close()
