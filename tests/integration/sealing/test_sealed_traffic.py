"""Whole services with keys: what travels arrives as it was written, and none of it lies in the database."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from posthouse.v1 import dispatch_pb2
from posthouse.v1 import message_service_pb2 as pb
from services.kit.config import Settings
from services.kit.keyring import PLAIN
from services.ledger import relay
from services.providers import registry
from services.providers.base import Rejected, Retryable
from tests.integration.dispatch.house import House, running_house
from tests.integration.dispatch.scripted import ScriptedProvider
from tests.integration.ledger.rows import CONTACT, OURS, Book, eventually, make_draft

from .conftest import BODY, HTML, LABEL, MEDIA, SUBJECT, OpenDatabase, everything, found_in, key_text

pytestmark = pytest.mark.integration

REPLY = "zqreplyzqreplyzqreplyzq"


@pytest.fixture
async def provider() -> ScriptedProvider:
    return ScriptedProvider()


@pytest.fixture
async def house(
    settings: Settings, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[House]:
    monkeypatch.setattr(relay, "_SWEEP_INTERVAL", 0.05)
    monkeypatch.setattr(registry, "FACTORIES", {"scripted": lambda _: provider})
    impatient = settings.model_copy(
        update={
            "routes": "sms=scripted mms=scripted email=scripted",
            "dispatch_retry_base": 0.05,
            "dispatch_retry_max": 0.2,
            "dispatch_max_attempts": 2,
            "outbox_republish_after": 1.0,
            "shutdown_grace": 2.0,
            "encryption_keys": SecretStr(key_text("one")),
        }
    )
    async with running_house(impatient, provider, monkeypatch) as house:
        yield house


async def ingest(house: House, *events: dict[str, Any], signed: str = "yes") -> None:
    await house.stub.IngestWebhook(
        pb.IngestWebhookRequest(
            provider="scripted",
            method="POST",
            url=f"http://127.0.0.1/api/v1/webhooks/scripted?Body={REPLY}",
            headers=[pb.Header(name="x-signed", value=signed), pb.Header(name="x-told", value=LABEL)],
            body=orjson.dumps(events),
            remote_address="203.0.113.9",
        )
    )


async def rotate(settings: Settings) -> int | None:
    """Rotate to the second key in a process of its own, and return its exit code."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "cli.main", "encryption", "rotate"),
        env={
            **os.environ,
            "DATABASE_URL": settings.database_url,
            "POSTHOUSE_ENCRYPTION_KEYS": key_text("two", "one"),
        },
    )
    await process.wait()
    return process.returncode


async def test_no_content_of_any_traffic_is_in_the_database(
    house: House, provider: ScriptedProvider, database_url: str
) -> None:
    refused, tired = f"refused {BODY}", f"tired {BODY}"
    provider.scripts[refused] = [Rejected("21211", "no such number")]
    provider.scripts[tired] = [Retryable("30003", "unreachable")]
    await house.dispatch()
    ids = await house.send(BODY, refused, tired)
    mail = await house.stub.SendMessage(
        pb.SendMessageRequest(
            sender="desk@example.com",
            recipient="ann@example.org",
            subject=SUBJECT,
            body=BODY,
            html=f"<p>{HTML}</p>",
            attachments=[{"content_type": "text/plain", "filename": "a.txt", "content": MEDIA}],
            metadata={"case": LABEL},
        )
    )
    await house.until("failed", *ids[1:])
    await house.until("sent", ids[0], mail.message.id)
    await ingest(
        house,
        {
            "event": "reply",
            "channel": "sms",
            "from": CONTACT,
            "to": OURS,
            "body": f"thanks, {REPLY}",
            "provider_message_id": "R1",
            "timestamp": "2026-03-01T12:00:00+00:00",
        },
    )
    with pytest.raises(Exception, match="signature"):
        await ingest(house, {"event": "reply", "body": REPLY}, signed="no")
    await house.stub.ReceiveMessages(
        pb.ReceiveMessagesRequest(
            messages=[
                pb.InboundMessage(
                    source="desk",
                    event_id="1",
                    sender=CONTACT,
                    recipient=OURS,
                    body=REPLY,
                    metadata={"a": LABEL},
                )
            ]
        )
    )
    assert {sent.body for sent in provider.sent} == {BODY, refused, tired}
    (sent,) = [sent for sent in provider.sent if sent.channel == "email"]
    assert (sent.subject, sent.html) == (SUBJECT, f"<p>{HTML}</p>")
    assert await house.book.value("SELECT count(*) FROM dead_letters") == 2
    assert await house.book.value("SELECT count(*) FROM webhook_logs") == 2
    assert await house.book.value("SELECT count(*) FROM messages WHERE direction = 'inbound'") == 2
    dump = everything(database_url)
    assert found_in(dump, BODY, SUBJECT, HTML, MEDIA, LABEL, REPLY) == []
    listed = await house.stub.ListMessages(pb.ListMessagesRequest(page_size=10))
    assert sorted(m.body for m in listed.messages) == sorted(
        [BODY, BODY, refused, tired, REPLY, f"thanks, {REPLY}"]
    )


async def test_a_repeat_of_a_sealed_send_gets_its_first_answer(house: House) -> None:
    async def send(body: str) -> Any:
        answer = await house.stub.SendMessages(
            pb.SendMessagesRequest(
                requests=[pb.SendMessageRequest(sender=OURS, recipient=CONTACT, body=body, request_id="key")]
            )
        )
        return answer.results[0]

    first, again, other = [await send(body) for body in (BODY, BODY, "another")]
    assert again.message.replayed
    assert again.message.id == first.message.id
    assert other.error.reason == "IDEMPOTENCY_KEY_REUSED"


async def test_messages_without_their_key_wait_for_it_and_damaged_ones_are_given_up(
    house: House, provider: ScriptedProvider
) -> None:
    waiting, damaged, free = await house.send("waits", "was changed", "hello")
    await house.book.rows("UPDATE messages SET body = reverse(body) WHERE id = %s", damaged)
    dispatcher = await house.dispatch(encryption_keys=SecretStr(key_text("two")))
    await house.until_true("SELECT count(*) = 3 FROM messages WHERE error_code = 'held_back'")
    held = await house.book.rows("SELECT DISTINCT state, split_part(error_message, ' ', 9) FROM messages")
    assert held == [("pending", "one,")]
    assert provider.sent == []
    await dispatcher.close()
    await house.book.rows("UPDATE outbox SET due_time = now() WHERE owner IS NULL")
    await house.dispatch()
    await house.until("sent", waiting, free)
    await house.until("failed", damaged)
    assert sorted(provider.bodies) == ["hello", "waits"]
    assert await house.book.rows("SELECT message_id::text, reason FROM dead_letters") == [
        (damaged, "content_damaged")
    ]
    letters = await house.book.rows("SELECT number FROM dispatch_attempts WHERE message_id = %s", waiting)
    assert len(letters) == 1


async def test_keys_are_changed_while_messages_flow(
    house: House, provider: ScriptedProvider, open_database: OpenDatabase
) -> None:
    await Book(await open_database(PLAIN)).accept(*(make_draft(body=f"before {n}") for n in range(300)))
    await house.book.rows("UPDATE outbox SET due_time = now()")
    both = SecretStr(key_text("two", "one"))
    await house.dispatch(encryption_keys=both)
    rotating = asyncio.create_task(rotate(house.settings))
    ids = [
        message_id
        for part in range(2)
        for message_id in await house.send(*(f"meanwhile {part}.{n}" for n in range(50)))
    ]
    assert await rotating == 0
    await house.until("sent", *ids)
    await eventually(lambda: house.book.value("SELECT count(*) = 400 FROM messages WHERE state = 'sent'"))
    # The message process seals with the old key still: what came after the rotation is left to another one.
    assert await rotate(house.settings) == 0
    assert await house.book.rows("SELECT DISTINCT sealed_by FROM messages") == [("two",)]
    assert set(provider.attempts().values()) == {1}
    expected = {f"before {n}" for n in range(300)} | {
        f"meanwhile {p}.{n}" for p in range(2) for n in range(50)
    }
    assert set(provider.bodies) == expected


def test_dead_letters_hold_no_content() -> None:
    # What they might hold is to be thought about when it is added.
    assert {field.name for field in dispatch_pb2.DeadLetter.DESCRIPTOR.fields} == {
        "message_id",
        "channel",
        "provider",
        "reason",
        "error_code",
        "error_message",
        "attempt_count",
        "create_time",
        "replay_time",
    }
