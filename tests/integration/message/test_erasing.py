"""Erasing a person takes everything between them and us, however they are spelled, and nothing else."""

import asyncio
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

from cli.main import app
from posthouse.v1 import privacy_service_pb2 as pb
from services.kit.errors import InvalidRequestError, UnavailableError
from services.kit.fault_points import FaultPoints
from services.ledger import erasures
from services.ledger.database import Database
from services.ledger.retention import Retention
from services.message.cleaning import Cleaner
from services.message.erasing import Eraser
from tests.integration.ledger.rows import (
    CONTACT,
    Book,
    eventually,
    make_draft,
    make_inbound,
    settlement_for,
)

OTHER = "+15550001111"
DAY = 86_400.0


def request(address: str, reason: str = "asked for it") -> pb.EraseAddressRequest:
    return pb.EraseAddressRequest(address=address, reason=reason)


async def fill(book: Book) -> None:
    """Store a conversation with the contact and one with another person, with all that hangs on messages."""
    sent = await book.accept(*(make_draft(body=f"{n}") for n in range(3)), caller="ann")
    await book.accept(make_inbound("in-1", body="hi"), make_inbound("in-2", sender=OTHER, body="me too"))
    await book.accept(make_draft(recipient=OTHER, body="stay"))
    claimed, _ = await book.claim([sent.envelopes[0].outbox_id])
    await book.settle(*(settlement_for(message, "sent") for message in claimed[:2]))
    await book.rows(
        "INSERT INTO contacts (address, last_message_time, create_time) VALUES (%s, now(), now())", CONTACT
    )
    await book.rows(
        "INSERT INTO webhook_logs"
        " (id, provider, method, url, headers, body, verdict, message_ids, create_time)"
        " SELECT gen_random_uuid(), 'simulator', 'POST', '', '{}', 'raw', 'accepted', ARRAY[id], now()"
        " FROM messages WHERE direction = 'inbound'"
    )
    await book.rows(
        "INSERT INTO message_search (message_id, conversation_id, vector)"
        " SELECT id, conversation_id, ''::tsvector FROM messages"
    )
    await book.rows(
        "INSERT INTO opt_outs (recipient, sender, event_id, channel_family, source, create_time)"
        " VALUES (%s, %s, gen_random_uuid(), 'sms', 'contact', now())",
        CONTACT, OTHER,
    )  # fmt: skip


async def is_alone(book: Book) -> bool:
    return bool(await book.value("SELECT count(*) = 1 FROM messages WHERE recipient = %s", CONTACT))


async def finish(book: Book) -> None:
    await book.rows("UPDATE messages SET state = 'sent' WHERE state = 'sending'")


@pytest.mark.parametrize("spelling", ["+1 (555) 987-6543", "tel:+15559876543", "001 555 987 6543"])
async def test_all_of_a_person_goes_and_nothing_of_others(
    database: Database, book: Book, spelling: str
) -> None:
    await fill(book)
    await finish(book)
    eraser = Eraser(database)
    begun = await eraser.begin(request(spelling), caller="command line")
    assert begun.created
    await eraser.work()

    erasure = await eraser.get(begun.erasure.id)
    assert erasure.HasField("end_time")
    assert (erasure.message_count, erasure.conversation_count, erasure.webhook_count) == (4, 1, 1)
    assert (erasure.masked_address, erasure.reason, erasure.caller) == (
        "+1*****6543", "asked for it", "command line"
    )  # fmt: skip
    for table in ("messages", "conversations", "contacts", "erasures", "webhook_logs", "message_search"):
        assert CONTACT not in str(await book.rows(f"SELECT * FROM {table}")), table  # noqa: S608
    left = await book.rows("SELECT body FROM messages ORDER BY body")
    assert left == [("me too",), ("stay",)]
    for table in ("message_events", "dispatch_attempts", "message_search"):
        strays = f"SELECT count(*) FROM {table} WHERE message_id NOT IN (SELECT id FROM messages)"  # noqa: S608
        assert await book.value(strays) == 0, table
    assert await book.value("SELECT count(*) FROM opt_outs") == 1
    # Once more: nothing is left to do, and that is on record too.
    again = await eraser.begin(request(spelling))
    await eraser.work()
    assert again.created
    assert (await eraser.get(again.erasure.id)).message_count == 0
    assert [item.id for item in (await eraser.page(pb.ListErasuresRequest())).erasures] == [
        again.erasure.id, begun.erasure.id
    ]  # fmt: skip


async def test_what_waits_is_cancelled_and_what_is_under_way_is_waited_for(
    database: Database, book: Book
) -> None:
    await fill(book)
    waiting = await book.accept(make_draft(body="later"))
    eraser = Eraser(database)
    begun = await eraser.begin(request(CONTACT))
    repeat = await eraser.begin(request("+1 555 987 6543"))
    assert (repeat.created, repeat.erasure.id) == (False, begun.erasure.id)
    work = asyncio.create_task(eraser.work())
    try:
        await eventually(lambda: is_alone(book))
        assert await book.rows("SELECT DISTINCT state FROM messages WHERE recipient = %s", CONTACT) == [
            ("sending",)
        ]
        assert not (await eraser.get(begun.erasure.id)).HasField("end_time")
        # The envelope of what was cancelled finds nothing to send.
        claimed, _ = await book.claim([waiting.envelopes[0].outbox_id])
        assert claimed == []
        await finish(book)
        await asyncio.wait_for(work, 60)
    finally:
        work.cancel()
    erasure = await eraser.get(begun.erasure.id)
    assert erasure.HasField("end_time")
    assert erasure.cancelled_count == 1


async def test_another_process_continues_what_was_interrupted(database: Database, book: Book) -> None:
    await fill(book)
    await finish(book)
    begun = await Eraser(database).begin(request(CONTACT))
    async with database.hot() as connection:
        (pending,) = await erasures.under_way(connection)
        assert await erasures.step(connection, pending, FaultPoints()) is True
    await Eraser(database).work()
    assert (await Eraser(database).get(begun.erasure.id)).message_count == 4


async def test_mail_addresses_are_compared_without_case(
    database: Database, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A page for each conversation: whichever of them comes last is looked at.
    monkeypatch.setattr(erasures, "_STRAY_PAGE", 1)
    for number in range(5):
        await book.accept(make_draft(recipient=f"+1555123000{number}"))
    mail: dict[str, Any] = {"channel": "email", "sender": "desk@example.com", "body": "x"}
    await book.accept(make_draft(**mail, recipient="Ann.Lee@example.org"))
    await book.accept(make_draft(**mail, recipient="ann.lee@example.org"))
    await book.accept(make_draft(**mail, recipient="bob@example.org"))
    # An answer by way of another address, in the conversation of the first.
    stray = make_inbound("in-3", channel="email", sender="ANN.lee@example.org", recipient="desk@example.com")
    stray.conversation_id = make_draft(**mail, recipient="bob@example.org").conversation_id
    await book.accept(stray)
    eraser = Eraser(database)
    await eraser.begin(request("Ann Lee <ANN.LEE@EXAMPLE.ORG>"))
    await eraser.work()
    left = "FROM {} WHERE {} = 'email'"
    assert await book.rows("SELECT recipient " + left.format("messages", "channel")) == [("bob@example.org",)]
    conversations = "SELECT participant_a, message_count " + left.format("conversations", "channel_family")
    assert await book.rows(conversations) == [("bob@example.org", 1)]


async def test_what_cannot_be_erased_now_is_put_off_for_longer_each_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    eraser = Eraser(database, interval=0.01)

    async def fail() -> None:
        raise UnavailableError("the database does not answer")

    async def put_off() -> list[float]:
        return [log["seconds"] for log in logs if log["event"] == "erasing_put_off"][3:]

    monkeypatch.setattr(eraser, "work", fail)
    with structlog.testing.capture_logs() as logs:
        running = asyncio.create_task(eraser.run())
        assert (await eventually(put_off))[0] == pytest.approx(0.01 * 2**4)
        running.cancel()


async def test_what_is_no_address_is_refused(database: Database) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        await Eraser(database).begin(request("the corner shop", "x" * 501))
    assert [violation.field for violation in refused.value.violations] == ["address", "reason"]


async def test_the_command_line(book: Book, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(book)
    await finish(book)
    monkeypatch.setenv("DATABASE_URL", database_url)

    async def run(*words: str) -> str:
        done = await asyncio.to_thread(CliRunner().invoke, app, ["privacy", *words])
        assert done.exit_code == 0, done.output
        return str(done.output)

    shown = await run("erase", "+1 555 987 6543", "--reason", "by post", "--yes")
    assert (
        "+1*****6543  done  messages 4, conversations 1, webhooks 1, cancelled 0  by command line  by post"
        in shown
    )
    assert await run("list") == shown


async def test_messages_go_when_they_are_old_enough(database: Database, book: Book) -> None:
    await fill(book)
    old, young = "01890000-0000-7000-8000-00000000000", "01a20000-0000-7000-8000-00000000000"
    await book.accept(make_inbound("old-1", body="old"), make_draft(body="waits"), ids=[f"{old}1", f"{old}2"])
    await book.accept(make_inbound("old-3", sender="+15557770000", body="alone"), ids=[f"{old}3"])
    await book.rows(
        "UPDATE messages SET create_time = now() - interval '2 years' WHERE body IN ('old', 'alone')"
    )
    await book.accept(make_inbound("new", body="new"), ids=[f"{young}1"])
    # Taken in just now by a process whose clock is years behind.
    await book.accept(make_inbound("slow", body="slow"), ids=[f"{old}4"])
    retention = Retention(DAY, DAY, DAY, DAY, DAY)
    cleaner = Cleaner(database, retention, message_days=365)
    assert (await cleaner.clean())["messages"] == 2
    assert await book.value("SELECT count(*) FROM messages WHERE body IN ('old', 'alone')") == 0
    assert await book.value("SELECT count(*) FROM messages WHERE body IN ('waits', 'new', 'slow')") == 3
    assert (
        await book.value(
            "SELECT count(*) FROM conversations WHERE '+15557770000' IN (participant_a, participant_b)"
        )
        == 0
    )
    counts = (
        "SELECT message_count, inbound_count FROM conversations WHERE %s IN (participant_a, participant_b)"
    )
    assert await book.rows(counts, CONTACT) == [(7, 3)]
    assert "messages" not in await Cleaner(database, retention).clean()
