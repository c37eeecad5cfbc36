"""Opt-outs at intake: what contacts say counts at once, exactly, and for the right pair only."""

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import orjson
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from posthouse.v1 import consent_pb2
from posthouse.v1 import message_service_pb2 as pb
from services.ledger.opt_outs import ConsentEntry, record_consent
from tests.integration.dispatch.house import House
from tests.integration.dispatch.scripted import ScriptedProvider
from tests.integration.ledger.rows import CONTACT, OURS

from .conftest import Contact

pytestmark = pytest.mark.integration

DESK, GUEST = "desk@example.com", "guest@example.org"


def sms(**fields: Any) -> pb.SendMessageRequest:
    return pb.SendMessageRequest(**{"sender": OURS, "recipient": CONTACT, "body": "hello", **fields})


def email(**fields: Any) -> pb.SendMessageRequest:
    return sms(**{"sender": DESK, "recipient": GUEST, **fields})


async def send(house: House, request: pb.SendMessageRequest) -> pb.AcceptedMessage:
    return (await house.stub.SendMessage(request)).message


async def is_refused(house: House, request: pb.SendMessageRequest) -> bool:
    response = await house.stub.SendMessages(pb.SendMessagesRequest(requests=[request]))
    (result,) = response.results
    assert result.HasField("message") or result.error.reason == "OPTED_OUT"
    return result.HasField("error")


async def history(house: House) -> list[tuple[Any, ...]]:
    return await house.book.rows(
        "SELECT change, source, keyword, effective FROM consent_events ORDER BY create_time, id"
    )


async def test_stop_refuses_the_next_send_and_start_lets_it_pass(
    house: House, contact: Contact, provider: ScriptedProvider, refusal: Any
) -> None:
    await house.dispatch()
    said = await contact.says(" stop\n")
    error = await refusal(house.stub.SendMessage(sms()))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "OPTED_OUT")
    assert [violation.field for violation in error.violations] == ["recipient"]
    assert await house.book.value("SELECT count(*) FROM messages WHERE direction = 'outbound'") == 0
    assert await house.book.rows(
        "SELECT sender, recipient, channel_family, source, keyword, message_id::text FROM opt_outs"
    ) == [(OURS, CONTACT, "sms", "contact", "STOP", said.message_id)]

    await contact.says("Unstop")
    accepted = await send(house, sms())
    await house.until("sent", accepted.id)
    assert provider.bodies == ["hello"]
    assert await house.book.rows("SELECT * FROM opt_outs") == []
    assert await history(house) == [
        ("opted_out", "contact", "STOP", True),
        ("opted_in", "contact", "UNSTOP", True),
    ]


async def test_a_word_is_recorded_with_its_message_or_not_at_all(house: House, contact: Contact) -> None:
    said = await contact.says("STOP")
    ((message,),) = await house.book.rows("SELECT xmin::text FROM messages WHERE id = %s", said.message_id)
    assert await house.book.rows("SELECT xmin::text FROM opt_outs") == [(message,)]
    assert await house.book.rows("SELECT xmin::text FROM consent_events") == [(message,)]


async def test_an_opt_out_is_of_one_pair_on_all_its_channels(house: House, contact: Contact) -> None:
    await contact.says("STOP")
    assert await is_refused(house, sms())
    assert await is_refused(house, sms(attachments=[{"url": "https://example.com/a.png"}]))
    assert not await is_refused(house, sms(sender="+15550001111"))
    assert not await is_refused(house, sms(recipient="+15557654321"))
    # The other way round it is another pair.
    assert not await is_refused(house, sms(sender=CONTACT, recipient=OURS))


async def test_neighbours_of_a_refused_item_pass(house: House, contact: Contact) -> None:
    await contact.says("STOP")
    requests = [sms(recipient=f"+1555765{n:04}") if n % 3 else sms(request_id=f"k{n}") for n in range(30)]
    response = await house.stub.SendMessages(pb.SendMessagesRequest(requests=requests))
    for number, result in enumerate(response.results):
        assert result.HasField("error") == (number % 3 == 0)
        if result.HasField("error"):
            assert (result.error.code, result.error.reason) == (9, "OPTED_OUT")
    assert await house.book.value("SELECT count(*) FROM messages WHERE direction = 'outbound'") == 20
    assert await house.book.value("SELECT count(*) FROM idempotency_keys") == 0
    assert await house.book.value("SELECT sum(cardinality(message_ids)) FROM outbox WHERE subject LIKE %s",
                                  "posthouse.dispatch%") == 20  # fmt: skip


async def test_help_and_longer_texts_change_nothing(house: House, contact: Contact) -> None:
    for body in ("help", "STOP 12345", "please stop", "STOP!", "stop.", "S T O P"):
        await contact.says(body)
    assert not await is_refused(house, sms())
    assert await history(house) == [("help", "contact", "HELP", True)]


async def test_a_repeated_webhook_does_not_say_it_again(house: House, contact: Contact) -> None:
    await contact.says("STOP", key="first")
    await contact.says("START", key="second")
    assert (await contact.says("STOP", key="first")).duplicate
    assert not await is_refused(house, sms())
    assert len(await history(house)) == 2


async def test_the_latest_word_counts_whatever_order_words_come_in(house: House, contact: Contact) -> None:
    noon = datetime.now(UTC) - timedelta(hours=1)

    def at(minutes: int) -> Timestamp:
        time = Timestamp()
        time.FromDatetime(noon + timedelta(minutes=minutes))
        return time

    await contact.says("START", message_time=at(10))
    await contact.says("STOP", message_time=at(5))
    assert not await is_refused(house, sms())
    await contact.says("STOP", message_time=at(20))
    await contact.says("YES", message_time=at(15))
    assert await is_refused(house, sms())
    assert [effective for *_, effective in await history(house)] == [False, False, True, False]


async def test_words_of_one_call_count_in_their_order(house: House) -> None:
    words = ["STOP", "START", "STOP", "YES", "QUIT"]
    time = Timestamp()
    time.FromDatetime(datetime.now(UTC) - timedelta(minutes=1))
    await house.stub.ReceiveMessages(
        pb.ReceiveMessagesRequest(
            messages=[
                pb.InboundMessage(
                    source="test",
                    event_id=f"w{number}",
                    sender=CONTACT,
                    recipient=OURS,
                    body=word,
                    message_time=time,
                )
                for number, word in enumerate(words)
            ]
        )
    )
    assert await house.book.rows("SELECT keyword FROM opt_outs") == [("QUIT",)]


async def test_a_reply_by_webhook_opts_out(house: House) -> None:
    event = {
        "event": "reply",
        "provider_message_id": "R1",
        "channel": "sms",
        "from": CONTACT,
        "to": OURS,
        "body": "Unsubscribe",
        "timestamp": datetime.now(UTC).isoformat(),
    }
    answer = await house.stub.IngestWebhook(
        pb.IngestWebhookRequest(
            provider="scripted",
            method="POST",
            url="http://localhost/",
            headers=[pb.Header(name="X-Signed", value="yes")],
            body=orjson.dumps([event]),
        )
    )
    assert answer.applied_count == 1
    assert await is_refused(house, sms())


async def test_what_another_process_has_committed_counts_at_once(house: House) -> None:
    for number in range(5):
        recipient = f"+1555765000{number}"
        assert not await is_refused(house, sms(recipient=recipient))
        async with house.database.hot() as connection, connection.transaction():
            entry = ConsentEntry(
                sender=OURS, recipient=recipient, family="sms", change="opted_out", source="api"
            )
            await record_consent(connection, [entry])
            assert not await is_refused(house, sms(recipient=recipient))
        assert await is_refused(house, sms(recipient=recipient))


async def test_a_repeat_gets_its_first_answer_after_an_opt_out(house: House, contact: Contact) -> None:
    first = await send(house, sms(request_id="order-1"))
    await contact.says("STOP")
    again = await send(house, sms(request_id="order-1"))
    assert (again.id, again.replayed) == (first.id, True)


async def test_a_refused_key_stays_free(house: House, contact: Contact, refusal: Any) -> None:
    await contact.says("STOP")
    assert (await refusal(house.stub.SendMessage(sms(request_id="order-1")))).reason == "OPTED_OUT"
    await contact.says("START")
    accepted = await send(house, sms(request_id="order-1"))
    assert not accepted.replayed


async def test_transactional_is_for_email_and_audited(
    house: House, contact: Contact, provider: ScriptedProvider, refusal: Any
) -> None:
    await contact.says("stop", sender=GUEST, recipient=DESK)
    # Before an opt-out of its own pair the flag overrides nothing.
    await send(house, email(recipient="other@example.org", transactional=True))
    assert (await refusal(house.stub.SendMessage(email()))).reason == "OPTED_OUT"
    error = await refusal(house.stub.SendMessage(sms(transactional=True)))
    assert (error.reason, error.violations[0].field) == ("INVALID_FIELD", "transactional")

    accepted = await send(house, email(body="receipt", transactional=True))
    await house.dispatch()
    await house.until("sent", accepted.id)
    assert "receipt" in provider.bodies
    found = await house.book.rows(
        "SELECT message_id::text, sender, recipient FROM consent_events WHERE change = 'overridden'"
    )
    assert found == [(accepted.id, DESK, GUEST)]
    message = (await house.stub.GetMessage(pb.GetMessageRequest(message_id=accepted.id))).message
    assert message.transactional


async def test_opt_outs_are_added_listed_and_lifted(house: House, refusal: Any) -> None:
    added = await house.stub.AddOptOut(
        pb.AddOptOutRequest(sender=OURS, recipient="+1 (555) 987-6543", reason="asked on the phone")
    )
    assert added.created
    assert (added.opt_out.recipient, added.opt_out.reason) == (CONTACT, "asked on the phone")
    assert added.opt_out.source == consent_pb2.CONSENT_SOURCE_API
    again = await house.stub.AddOptOut(pb.AddOptOutRequest(sender=OURS, recipient=CONTACT, reason="twice"))
    assert (again.created, again.opt_out) == (False, added.opt_out)
    assert (await refusal(house.stub.SendMessage(sms()))).reason == "OPTED_OUT"

    await house.stub.AddOptOut(pb.AddOptOutRequest(sender=DESK, recipient=GUEST))
    listed = await house.stub.ListOptOuts(pb.ListOptOutsRequest(page_size=1))
    assert [item.recipient for item in listed.opt_outs] == [GUEST]
    rest = await house.stub.ListOptOuts(pb.ListOptOutsRequest(page_size=1, page_token=listed.next_page_token))
    assert (list(rest.opt_outs), rest.next_page_token) == ([added.opt_out], "")
    for wanted in (
        pb.ListOptOutsRequest(sender="+1 555 123 4567"),
        pb.ListOptOutsRequest(recipient=CONTACT),
        pb.ListOptOutsRequest(channel_family="CHANNEL_FAMILY_SMS"),
    ):
        assert list((await house.stub.ListOptOuts(wanted)).opt_outs) == [added.opt_out]

    removal = pb.RemoveOptOutRequest(sender=OURS, recipient=CONTACT, reason="called again")
    assert (await house.stub.RemoveOptOut(removal)).removed
    assert not (await house.stub.RemoveOptOut(removal)).removed
    assert not await is_refused(house, sms())
    events = (await house.stub.ListConsentEvents(pb.ListConsentEventsRequest(recipient=CONTACT))).events
    assert [(event.change, event.reason, event.effective) for event in reversed(events)] == [
        (consent_pb2.CONSENT_CHANGE_OPTED_OUT, "asked on the phone", True),
        (consent_pb2.CONSENT_CHANGE_OPTED_OUT, "twice", False),
        (consent_pb2.CONSENT_CHANGE_OPTED_IN, "called again", True),
        (consent_pb2.CONSENT_CHANGE_OPTED_IN, "called again", False),
    ]
    page = await house.stub.ListConsentEvents(
        pb.ListConsentEventsRequest(change="CONSENT_CHANGE_OPTED_IN", page_size=1)
    )
    rest = await house.stub.ListConsentEvents(
        pb.ListConsentEventsRequest(
            change="CONSENT_CHANGE_OPTED_IN", page_size=1, page_token=page.next_page_token
        )
    )
    assert [event.id for event in (*page.events, *rest.events)] == [events[0].id, events[1].id]


@pytest.mark.parametrize(
    ("fields", "fields_at_fault"),
    [
        ({}, {"sender", "recipient"}),
        ({"sender": OURS, "recipient": "nobody home"}, {"recipient"}),
        ({"sender": OURS, "recipient": GUEST}, {"recipient"}),
        ({"sender": OURS, "recipient": OURS}, {"recipient"}),
        ({"sender": OURS, "recipient": CONTACT, "reason": "x" * 501}, {"reason"}),
        ({"sender": OURS, "recipient": CONTACT, "reason": "\0"}, {"reason"}),
    ],
)
async def test_bad_opt_outs(
    house: House, refusal: Any, fields: dict[str, str], fields_at_fault: set[str]
) -> None:
    for call in (
        house.stub.AddOptOut(pb.AddOptOutRequest(**fields)),
        house.stub.RemoveOptOut(pb.RemoveOptOutRequest(**fields)),
    ):
        error = await refusal(call)
        assert error.reason == "INVALID_FIELD"
        assert {violation.field for violation in error.violations} == fields_at_fault
    assert await history(house) == []


async def test_bad_filters(house: House, refusal: Any) -> None:
    for call, field in (
        (house.stub.ListOptOuts(pb.ListOptOutsRequest(sender="nobody at home")), "sender"),
        (house.stub.ListOptOuts(pb.ListOptOutsRequest(channel_family=77)), "channel_family"),
        (house.stub.ListOptOuts(pb.ListOptOutsRequest(page_token="x")), "page_token"),
        (house.stub.ListConsentEvents(pb.ListConsentEventsRequest(change=77)), "change"),
        (house.stub.ListConsentEvents(pb.ListConsentEventsRequest(page_size=-1)), "page_size"),
    ):
        assert (await refusal(call)).violations[0].field == field
