"""Opt-outs that come while messages wait, and those that providers tell of."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from posthouse.v1 import dispatch_service_pb2 as dispatch_pb
from posthouse.v1 import dispatch_service_pb2_grpc as dispatch_grpc
from posthouse.v1 import message_service_pb2 as pb
from services.kit.client import open_channel
from services.kit.ids import new_id
from services.ledger.claims import claim
from services.ledger.opt_outs import ConsentEntry, record_consent
from services.ledger.outbox import OWNER_LOCK
from services.ledger.refusals import refuse_waiting
from services.providers.base import Accepted, Rejected, Retryable
from tests.integration.dispatch.house import House
from tests.integration.dispatch.scripted import ScriptedProvider
from tests.integration.ledger.rows import CONTACT, LATER, OURS, eventually, make_draft
from tests.servers import free_ports

from .conftest import Contact

pytestmark = pytest.mark.integration


def timestamp(time: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(time)
    return made


async def assert_given_up(house: House, message_id: str, *story: str) -> None:
    await house.until("failed", message_id)
    assert await house.book.story(message_id) == [*story, "failed"]
    assert await house.book.rows(
        "SELECT error_code, next_attempt_time FROM messages WHERE id = %s", message_id
    ) == [("opted_out", None)]
    assert await house.book.rows(
        "SELECT message_id::text, reason FROM dead_letters WHERE message_id = %s", message_id
    ) == [(message_id, "opted_out")]
    await house.until_outbox_is_empty()


async def test_a_scheduled_message_is_not_sent_after_an_opt_out(
    house: House, contact: Contact, provider: ScriptedProvider
) -> None:
    later = timestamp(datetime.now(UTC) + timedelta(hours=1))
    (waits,) = await house.send("waits", send_time=later)
    (other,) = await house.send("other", send_time=later, sender="+15550001111")
    await contact.says("STOP")
    port = free_ports(6)
    await house.dispatch(grpc_port=port)
    await house.make_due(waits, other)
    await assert_given_up(house, waits, "scheduled")
    await house.until("sent", other)
    assert provider.bodies == ["other"]
    # No attempt was begun, and none is shown.
    assert await house.book.value("SELECT attempt_count FROM messages WHERE id = %s", waits) == 0
    async with open_channel(f"127.0.0.1:{port + 2}") as channel:
        stub = dispatch_grpc.DispatchServiceStub(channel)
        asked = dispatch_pb.ListDispatchAttemptsRequest(message_id=waits)
        assert not (await stub.ListDispatchAttempts(asked)).attempts


async def test_a_retry_is_not_made_after_an_opt_out(
    house: House, contact: Contact, provider: ScriptedProvider
) -> None:
    provider.scripts = {"busy": [Retryable("429", retry_after=60.0), Accepted("P1")]}
    await house.dispatch()
    (busy,) = await house.send("busy")
    # It is pending before its first attempt as well: only its history tells that it waits for the second.
    await house.until_true(f"SELECT event_count = 3 FROM messages WHERE id = '{busy}'")  # noqa: S608
    await contact.says("STOP")
    await house.book.rows("UPDATE outbox SET due_time = now() WHERE owner IS NULL")
    await assert_given_up(house, busy, "accepted", "sending", "retrying")
    assert provider.attempts() == {"busy": 1}


async def test_an_opt_out_during_a_send_does_not_undo_it(
    house: House, contact: Contact, provider: ScriptedProvider
) -> None:
    provider.gate.clear()
    await house.dispatch()
    (under_way,) = await house.send("under way")
    await house.until("sending", under_way)
    await contact.says("STOP")
    provider.gate.set()
    await house.until("sent", under_way)


async def test_a_transactional_message_that_waited_is_sent_and_audited_once(
    house: House, contact: Contact, provider: ScriptedProvider
) -> None:
    desk, guest = "desk@example.com", "guest@example.org"
    provider.scripts = {"receipt": [Retryable("429"), Accepted("P1")]}
    later = timestamp(datetime.now(UTC) + timedelta(hours=1))
    (receipt,) = await house.send(
        "receipt", sender=desk, recipient=guest, transactional=True, send_time=later
    )
    assert await house.book.value("SELECT count(*) FROM consent_events") == 0
    await contact.says("STOP", sender=guest, recipient=desk)
    await house.dispatch()
    await house.make_due(receipt)
    await house.until("sent", receipt)
    assert provider.attempts() == {"receipt": 2}
    assert await house.book.rows(
        "SELECT change, source, message_id::text FROM consent_events WHERE change = 'overridden'"
    ) == [("overridden", "api", receipt)]


async def test_a_provider_that_knows_of_an_opt_out_is_believed(
    house: House, provider: ScriptedProvider, refusal: Any
) -> None:
    provider.scripts = {
        "unwanted": [Rejected("21610", "the recipient is unsubscribed")],
        "wrong": [Rejected("21211")],
    }
    await house.dispatch()
    wrong, unwanted = await house.send("wrong", "unwanted")
    await house.until("failed", wrong, unwanted)
    assert await house.book.rows("SELECT recipient, sender, source, message_id::text FROM opt_outs") == [
        (CONTACT, OURS, "provider", unwanted)
    ]
    request = pb.SendMessageRequest(sender=OURS, recipient=CONTACT, body="again")
    assert (await refusal(house.stub.SendMessage(request))).reason == "OPTED_OUT"
    assert await house.book.rows(
        "SELECT error_code FROM dispatch_attempts WHERE message_id = %s", unwanted
    ) == [("21610",)]


async def test_a_receipt_that_tells_of_an_opt_out_is_believed(house: House) -> None:
    await house.dispatch()
    (sent,) = await house.send("hello")
    await house.until("sent", sent)
    event = {
        "event": "undelivered",
        "provider_message_id": f"P-{sent}",
        "message_id": sent,
        "attempt": 1,
        "timestamp": datetime.now(UTC).isoformat(),
        "error_code": "21610",
    }
    for _ in range(2):
        await house.stub.IngestWebhook(
            pb.IngestWebhookRequest(
                provider="scripted",
                method="POST",
                url="http://localhost/",
                headers=[pb.Header(name="X-Signed", value="yes")],
                body=orjson.dumps([event]),
            )
        )
    assert await house.book.rows("SELECT recipient, sender, source, reason FROM opt_outs") == [
        (CONTACT, OURS, "provider", "scripted reported error 21610")
    ]
    assert await house.book.value("SELECT count(*) FROM consent_events") == 1


async def test_who_opts_in_between_claim_and_refusal_gets_the_message(house: House, contact: Contact) -> None:
    """The claim saw the opt-out and left the message, the refusal does not see it any more."""
    database, book = house.database, house.book
    acceptance = await book.accept(make_draft(body="first"), make_draft(body="second"))
    (envelope,) = acceptance.envelopes
    await contact.says("STOP")
    options = {"owner": 7, "republish_after": LATER}
    async with await database.connect() as alive, database.hot() as connection:
        # Or the sweeper takes the work of owner 7 for that of a dead dispatcher.
        await alive.execute("SELECT pg_advisory_lock(%s, 7)", (OWNER_LOCK,))
        claimed, taken = await claim(
            connection, [envelope.outbox_id], lease=LATER, event_outbox_id=new_id(), **options
        )
        assert (claimed, list(taken)) == ([], [envelope.outbox_id])
        await contact.says("START")
        assert not await refuse_waiting(connection, list(taken), event_outbox_id=new_id(), **options)
        await connection.execute("DELETE FROM outbox WHERE id = %s", (envelope.outbox_id,))
    # Due at once; the sweeper of the message process may have published it already.
    rows = await book.rows(
        "SELECT message_ids::text[], owner, due_time <= now() OR publish_count > 0 FROM outbox"
        " WHERE subject LIKE %s",
        "posthouse.dispatch%",
    )
    assert [(set(ids), *rest) for ids, *rest in rows] == [(set(acceptance.stored), None, True)]
    await house.dispatch()
    await house.until("sent", *acceptance.stored)


async def test_a_dispatcher_that_dies_before_it_refuses_leaves_it_to_another(
    house: House, contact: Contact
) -> None:
    (waits,) = await house.send("waits")
    await contact.says("STOP")
    ((outbox_id,),) = await house.book.rows(
        "SELECT id::text FROM outbox WHERE %s = ANY(message_ids) AND subject LIKE %s",
        waits,
        "posthouse.dispatch%",
    )
    # Claimed under a key that nobody holds the lock of.
    claimed, taken = await house.book.claim([outbox_id], owner=12345)
    assert (claimed, taken) == ([], [outbox_id])
    await house.dispatch()
    await assert_given_up(house, waits, "accepted")


async def test_opposite_words_at_once_leave_state_and_history_agreeing(
    house: House, contact: Contact
) -> None:
    for _ in range(10):
        await asyncio.gather(*(contact.says(word) for word in ("STOP", "START") * 5))
    holds = await house.book.value("SELECT count(*) FROM opt_outs")
    ((outs, ins),) = await house.book.rows(
        "SELECT count(*) FILTER (WHERE change = 'opted_out'), count(*) FILTER (WHERE change = 'opted_in')"
        " FROM consent_events WHERE effective"
    )
    # Turns alternate: there is one opt-out more than there are opt-ins, or as many.
    assert outs - ins == holds


async def test_words_about_one_pair_wait_for_each_other(house: House) -> None:
    """An earlier STOP must see the later START that another process is about to commit."""
    later = datetime.now(UTC)
    start = ConsentEntry(OURS, CONTACT, "sms", "opted_in", "contact", event_time=later)
    stop = ConsentEntry(OURS, CONTACT, "sms", "opted_out", "contact", event_time=later - timedelta(seconds=1))

    async def say_stop() -> None:
        async with house.database.hot() as connection, connection.transaction():
            await record_consent(connection, [stop])

    async def waits_or_is_done() -> bool:
        return saying.done() or bool(
            await house.book.rows("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        )

    async with house.database.hot() as connection, connection.transaction():
        await record_consent(connection, [start])
        saying = asyncio.create_task(say_stop())
        await eventually(waits_or_is_done)
        assert not saying.done()
    await saying
    assert await house.book.rows("SELECT recipient FROM opt_outs") == []
