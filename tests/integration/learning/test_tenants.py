"""Tenants: linked by number, sooner or later, once, and never in the way of what comes in."""

import asyncio

import pytest

from cli.monitor_simulator import MonitorSimulator
from tests.integration.learning.conftest import Read, Town
from tests.integration.ledger.rows import CONTACT, OURS, Book, eventually

pytestmark = pytest.mark.integration

ANA = {"name": "Ana", "phone_numbers": ["5559876543"], "language_preference": None}
OTHER_OURS, OTHER_CONTACT = "+15551230002", "+15559870002"


async def _linked(book: Book, conversation: str, tenant: str) -> None:
    await eventually(
        lambda: book.value("SELECT tenant_id = %s FROM conversations WHERE id = %s", tenant, conversation)
    )


async def test_unknown_first_then_known(
    town: Town, monitor: MonitorSimulator, book: Book, read: Read
) -> None:
    stub = await town.converse()
    first = await town.says("Hola, necesito hablar con el dueño")
    await eventually(
        lambda: book.value("SELECT count(*) FROM contacts WHERE miss_count >= 1 AND address = %s", CONTACT)
    )
    unknown = await read(stub, first.conversation_id)
    assert (unknown.tenant_id, unknown.language, unknown.message_count) == ("", "es", 1)

    monitor.tenants["t-1"] = dict(ANA)
    second = await town.says("¿Me puede llamar?")
    await _linked(book, first.conversation_id, "t-1")
    assert second.conversation_id == first.conversation_id
    known = await read(stub, first.conversation_id)
    assert (known.tenant_id, known.language, known.message_count) == ("t-1", "es", 2)
    assert await book.value("SELECT count(*) FROM conversations") == 1
    assert await book.value("SELECT count(*) FROM messages") == 2
    rows = await book.rows("SELECT type, old_value, new_value FROM conversation_events ORDER BY type")
    assert [tuple(row) for row in rows] == [
        ("language_changed", None, "es"),
        ("tenant_linked", None, "t-1"),
    ]
    await eventually(lambda: _true(monitor.tenants["t-1"]["language_preference"] == "es"))


async def test_the_timer_links_who_stays_silent(town: Town, monitor: MonitorSimulator, book: Book) -> None:
    await town.converse()
    conversation = (await town.says("ok")).conversation_id
    await eventually(lambda: book.value("SELECT count(*) FROM contacts WHERE miss_count >= 2"))
    monitor.tenants["t-1"] = dict(ANA)
    await _linked(book, conversation, "t-1")
    await eventually(
        lambda: book.value("SELECT count(*) FROM contacts WHERE lookup_time IS NULL AND lease_time IS NULL")
    )


async def test_each_form_of_the_number_is_tried_in_order(
    town: Town, monitor: MonitorSimulator, book: Book
) -> None:
    await town.says("ok", sender="+1 (555) 987-6543")
    await town.converse()
    await eventually(lambda: book.value("SELECT count(*) FROM contacts WHERE miss_count >= 1"))
    forms = ["+1 (555) 987-6543", "+15559876543", "5559876543", "15559876543"]
    assert monitor.requests[:4] == [("GET", form) for form in forms]


async def test_a_register_that_fails_is_asked_again(
    town: Town, monitor: MonitorSimulator, book: Book
) -> None:
    monitor.tenants["t-1"] = dict(ANA)
    monitor.failing = 2
    await town.converse()
    conversation = (await town.says("ok")).conversation_id
    await _linked(book, conversation, "t-1")
    assert monitor.failing == 0
    assert await book.value("SELECT count(*) FROM tenant_numbers WHERE end_time IS NULL") == 1


async def test_two_processes_share_the_work(town: Town, monitor: MonitorSimulator, book: Book) -> None:
    contacts = [f"+1555988{number:04}" for number in range(40)]
    for number, contact in enumerate(contacts):
        monitor.tenants[f"t-{number}"] = {"name": None, "phone_numbers": [contact]}
    await town.converse()
    await town.converse()
    await asyncio.gather(*(town.says("muchas gracias", sender=contact) for contact in contacts))
    await eventually(
        lambda: book.value("SELECT count(*) = 40 FROM conversations WHERE tenant_id IS NOT NULL")
    )
    await eventually(lambda: book.value("SELECT count(*) = 40 FROM conversations WHERE language = 'es'"))
    assert sorted(phone for method, phone in monitor.requests if method == "GET") == contacts
    counts = await book.rows("SELECT type, count(*) FROM conversation_events GROUP BY type ORDER BY type")
    assert [tuple(row) for row in counts] == [("language_changed", 40), ("tenant_linked", 40)]


async def test_who_is_written_to_first_is_linked_too(
    town: Town, monitor: MonitorSimulator, book: Book
) -> None:
    monitor.tenants["t-1"] = dict(ANA)
    await town.converse()
    conversation = await town.send("Your rent is due")
    await _linked(book, conversation, "t-1")


async def test_a_tenant_keeps_the_language_across_conversations(
    town: Town, monitor: MonitorSimulator, book: Book, read: Read
) -> None:
    monitor.tenants["t-1"] = {
        "name": "Ana",
        "phone_numbers": [CONTACT, OTHER_CONTACT],
        "language_preference": "en-US",
    }
    stub = await town.converse()
    first = (await town.says("Bom dia, preciso falar com o senhor")).conversation_id
    await _linked(book, first, "t-1")
    await eventually(lambda: _true(monitor.tenants["t-1"]["language_preference"] == "pt"))
    elsewhere = (await town.says("ok", recipient=OTHER_OURS)).conversation_id
    other_number = (await town.says("ok", sender=OTHER_CONTACT)).conversation_id
    for conversation in (elsewhere, other_number):
        await _linked(book, conversation, "t-1")
        await eventually(
            lambda conversation=conversation: book.value(
                "SELECT language = 'pt' FROM conversations WHERE id = %s", conversation
            )
        )
    assert (await read(stub, elsewhere)).language == "pt"
    newest = await book.value(
        "SELECT address FROM contacts WHERE tenant_id = 't-1' ORDER BY last_message_time DESC LIMIT 1"
    )
    assert newest == OTHER_CONTACT


async def test_a_number_that_changes_hands_leaves_a_history(
    town: Town, monitor: MonitorSimulator, book: Book
) -> None:
    monitor.tenants["t-1"] = dict(ANA)
    await town.converse()
    conversation = (await town.says("ok")).conversation_id
    await _linked(book, conversation, "t-1")
    await eventually(lambda: book.value("SELECT count(*) FROM contacts WHERE lease_time IS NULL"))
    monitor.tenants["t-2"] = monitor.tenants.pop("t-1")
    await book.rows("UPDATE contacts SET lookup_time = now() RETURNING 1")
    await _linked(book, conversation, "t-2")
    rows = await book.rows("SELECT tenant_id, end_time IS NULL FROM tenant_numbers ORDER BY id")
    assert [tuple(row) for row in rows] == [("t-1", False), ("t-2", True)]


async def test_two_tenants_with_one_number_are_not_guessed_between(
    town: Town, monitor: MonitorSimulator, book: Book
) -> None:
    monitor.tenants.update({"t-1": dict(ANA), "t-2": dict(ANA)})
    await town.converse()
    await town.says("ok")
    await eventually(lambda: book.value("SELECT count(*) FROM contacts WHERE miss_count >= 1"))
    assert await book.value("SELECT tenant_id FROM contacts") is None


async def test_a_conversation_is_its_contacts_not_ours(
    town: Town, monitor: MonitorSimulator, book: Book
) -> None:
    monitor.tenants["t-1"] = {"name": "The office", "phone_numbers": [OURS]}
    await town.converse()
    await town.says("ok")
    await eventually(lambda: book.value("SELECT count(*) FROM contacts WHERE miss_count >= 1"))
    assert await book.value("SELECT count(*) FROM contacts") == 1
    # Somebody else's conversation has made a contact of our number as well.
    await book.rows(
        "INSERT INTO contacts (address, last_message_time, lookup_time, create_time)"
        " VALUES (%s, now(), now(), now()) RETURNING 1",
        OURS,
    )
    await eventually(
        lambda: book.value(
            "SELECT count(*) FROM contacts WHERE address = %s AND tenant_id = 't-1' AND lookup_time IS NULL",
            OURS,
        )
    )
    assert await book.value("SELECT tenant_id FROM conversations") is None


async def _true(value: bool) -> bool:
    return value
