"""News of real providers' forms: parked and placed, threaded, linked to their messages, or not believed."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import grpc
import orjson
import pytest
from pydantic import SecretStr

from posthouse.v1.privacy_service_pb2 import EraseAddressRequest
from services.dispatch.sending import outbound
from services.kit.ids import new_id
from services.ledger.database import Database
from services.message.erasing import Eraser
from services.message.webhook_logging import MAX_FORGED_BYTES
from services.providers.base import WebhookRequest
from services.providers.email_message import email_parts
from services.providers.sendgrid import mail_of
from tests.integration.ledger.rows import CONTACT, OURS, Book, eventually, make_draft, settlement_for
from tests.unit.providers.sendgrid_requests import TOKEN as PARSE_TOKEN
from tests.unit.providers.sendgrid_requests import event, events, public_key, signed
from tests.unit.providers.twilio_carrier import TOKEN, form_request

from .conftest import StartProcess
from .test_inbound import Refused
from .webhook_requests import passed_on

pytestmark = pytest.mark.integration

BASE = "http://127.0.0.1:8000"
TWILIO_URL = f"{BASE}/webhook/twilio/status"
EMAIL = {"channel": "email", "sender": "desk@example.com", "recipient": "ann@example.org"}


@pytest.fixture
async def stub(start_process: StartProcess) -> Any:
    """A message process that takes the webhooks of Twilio and SendGrid."""
    return await start_process(
        # However slow the machine is, 25 megabytes are to be stored.
        database_timeout=120.0,
        twilio_auth_token=SecretStr(TOKEN),
        webhook_base_url=BASE,
        sendgrid_webhook_public_key=public_key(),
        sendgrid_inbound_token=SecretStr(PARSE_TOKEN),
    )


def status(sid: str, state: str, query: str = "") -> WebhookRequest:
    return form_request({"MessageSid": sid, "MessageStatus": state}, url=TWILIO_URL + query)


def sms(sid: str, body: str = "hi", **more: str) -> WebhookRequest:
    fields = {"MessageSid": sid, "From": CONTACT, "To": OURS, "Body": body, "NumMedia": "0", **more}
    return form_request(fields, url=f"{BASE}/webhook/twilio/sms")


async def under_way(book: Book, **fields: Any) -> Any:
    (message,) = await book.claimed(make_draft(**fields))
    return message


async def answer(book: Book, message: Any, provider: str, provider_id: str) -> None:
    settlement = settlement_for(message, "sent", provider=provider, provider_message_id=provider_id)
    await book.settle(settlement, closing=[message.outbox_id])


async def test_a_callback_that_overtakes_the_answer_waits_for_it(stub: Any, book: Book) -> None:
    message = await under_way(book)
    for _ in range(3):
        done = await stub.IngestWebhook(passed_on("twilio", status("SM7", "delivered")))
        assert (done.applied_count, done.duplicate_count) == (0, 0)
    assert await book.rows("SELECT provider, provider_message_id, state FROM parked_receipts") == [
        ("twilio", "SM7", "delivered")
    ]
    assert await book.state(message.id) == "sending"
    received = await book.value("SELECT create_time FROM parked_receipts")
    await answer(book, message, "twilio", "SM7")

    async def placed() -> bool:
        return await book.state(message.id) == "delivered"

    await eventually(placed)
    await eventually(lambda: gone(book))
    assert await book.story(message.id) == ["accepted", "sending", "sent", "delivered"]
    linked = "SELECT parked_count FROM webhook_logs WHERE message_ids = ARRAY[%s::uuid]"
    assert await book.rows(linked, message.id) == [(1,)]
    ((detail, attempt),) = await book.rows(
        "SELECT detail, attempt_number FROM message_events WHERE type = 'delivered'"
    )
    assert f"received {received:%Y-%m-%dT%H:%M}" in detail
    assert attempt == 1
    # And from now on it is known at once.
    again = await stub.IngestWebhook(passed_on("twilio", status("SM7", "delivered")))
    late = await stub.IngestWebhook(passed_on("twilio", status("SM7", "sent")))
    assert (again.duplicate_count, late.applied_count) == (1, 1)
    assert await book.story(message.id) == ["accepted", "sending", "sent", "delivered", "receipt"]


async def gone(book: Book) -> bool:
    return bool(await book.value("SELECT count(*) = 0 FROM parked_receipts"))


async def test_repeats_are_erased_with_the_message_they_repeat(
    stub: Any, book: Book, database: Database
) -> None:
    for _ in range(3):
        await stub.IngestWebhook(passed_on("twilio", sms("SM70", "words of a person")))
    await stub.IngestWebhook(passed_on("twilio", sms("SM71", "words of another", From="+15550009999")))
    eraser = Eraser(database)
    begun = await eraser.begin(EraseAddressRequest(address=CONTACT, reason="asked for it"))
    await eraser.work()
    assert (await eraser.get(begun.erasure.id)).webhook_count == 3
    ((left,),) = await book.rows("SELECT body FROM webhook_logs")
    assert b"another" in bytes(left)


async def test_what_comes_with_our_ids_needs_no_answer(stub: Any, book: Book) -> None:
    message = await under_way(book)
    request = status("SM8", "delivered", f"?message_id={message.id}&attempt=1")
    assert (await stub.IngestWebhook(passed_on("twilio", request))).applied_count == 1
    await answer(book, message, "twilio", "SM8")
    assert await book.state(message.id) == "delivered"


async def test_news_of_a_message_that_is_gone_is_taken_like_any_other(stub: Any, book: Book) -> None:
    known, gone_id = await under_way(book), new_id()
    gone = passed_on("twilio", status("SM9", "delivered", f"?message_id={gone_id}&attempt=1"))
    assert (await stub.IngestWebhook(gone)).http_status == 200
    assert (await stub.IngestWebhook(gone)).duplicate_count == 1
    # Nor does it take from its neighbours.
    mixed = [
        status("SM10", "sent", f"?message_id={new_id()}&attempt=1"),
        status("SM11", "sent", f"?message_id={known.id}&attempt=1"),
    ]
    answers = await asyncio.gather(*(stub.IngestWebhook(passed_on("twilio", one)) for one in mixed))
    assert [answer.http_status for answer in answers] == [200, 200]
    assert await book.state(known.id) == "sent"
    assert await book.value("SELECT count(*) FROM provider_events") == 3


async def test_sendgrids_events_are_placed_by_the_id_their_message_id_begins_with(
    stub: Any, book: Book
) -> None:
    message = await under_way(book, **EMAIL)
    await answer(book, message, "sendgrid", "14c5d75ce93.dfd.64b469")
    foreign = {"message_id": None, "message_attempt": None}
    body = events(event("delivered", **foreign), event("open", sg_message_id="other.filter1", **foreign))
    done = await stub.IngestWebhook(passed_on("sendgrid", signed(body)))
    assert (done.applied_count, done.duplicate_count) == (1, 0)
    assert await book.state(message.id) == "delivered"
    times = await book.rows("SELECT provider_time, create_time FROM message_events WHERE type = 'delivered'")
    ((provider_time, receive_time),) = times
    assert provider_time == datetime.fromtimestamp(1767323045, UTC) < receive_time
    assert await book.rows(
        "SELECT message_ids::text[], applied_count, parked_count, refused_count FROM webhook_logs"
    ) == [([message.id], 1, 1, 0)]


async def test_an_entry_says_what_became_of_its_request(stub: Any, book: Book) -> None:
    first = await stub.IngestWebhook(passed_on("twilio", sms("SM1")))
    second = await stub.IngestWebhook(passed_on("twilio", sms("SM1")))
    odd = form_request({"MessageSid": "SM1", "MessageStatus": "exploded"}, url=TWILIO_URL)
    third = await stub.IngestWebhook(passed_on("twilio", odd))
    assert (third.http_status, third.content_type, third.refused_count) == (200, "text/xml", 1)
    message_id = await book.value("SELECT id::text FROM messages")
    assert await book.rows(
        "SELECT id::text, verdict, message_ids::text[], applied_count, repeated_count, refused_count"
        " FROM webhook_logs ORDER BY id"
    ) == [
        (first.webhook_log_id, "accepted", [message_id], 1, 0, 0),
        (second.webhook_log_id, "accepted", [message_id], 0, 1, 0),
        (third.webhook_log_id, "malformed", None, 0, 0, 1),
    ]


async def test_a_hundred_posts_of_one_sid_at_once_are_one_message(stub: Any, book: Book) -> None:
    answers = await asyncio.gather(*(stub.IngestWebhook(passed_on("twilio", sms("SM1"))) for _ in range(100)))
    assert sum(done.applied_count for done in answers) == 1
    assert await book.rows("SELECT provider_message_id, state FROM messages") == [("SM1", "received")]
    assert await book.rows("SELECT message_count FROM conversations") == [(1,)]


async def test_a_forged_request_is_kept_in_part_and_without_its_secrets(
    stub: Any, book: Book, refusal: Refused
) -> None:
    forged = replace(sms("SM1"), body=b"x" * (MAX_FORGED_BYTES + 5))
    forged = replace(forged, headers={**forged.headers, "authorization": "Basic c2VjcmV0"})
    error = await refusal(stub.IngestWebhook(passed_on("twilio", forged)))
    assert (error.code, error.reason) == (grpc.StatusCode.PERMISSION_DENIED, "WEBHOOK_FORGED")
    ((verdict, length, size, headers),) = await book.rows(
        "SELECT verdict, length(body), body_size, headers FROM webhook_logs"
    )
    assert (verdict, length, size) == ("forged", MAX_FORGED_BYTES, MAX_FORGED_BYTES + 5)
    assert "authorization" not in headers


async def test_forged_requests_do_not_fill_the_database_and_genuine_ones_are_kept(
    start_process: StartProcess, book: Book, refusal: Refused
) -> None:
    stub = await start_process(
        twilio_auth_token=SecretStr(TOKEN), webhook_base_url=BASE, webhook_forged_bytes=40_000
    )
    forged = replace(sms("SM1"), body=b"x" * 10_000)
    for _ in range(20):
        error = await refusal(stub.IngestWebhook(passed_on("twilio", forged)))
        assert error.reason == "WEBHOOK_FORGED"
    for number in range(5):
        request = sms(f"SM{number}", "x" * 1600)
        assert (await stub.IngestWebhook(passed_on("twilio", request))).applied_count == 1
    counts = "SELECT verdict, count(*)::int FROM webhook_logs GROUP BY verdict ORDER BY verdict"
    assert await book.rows(counts) == [("accepted", 5), ("forged", 3)]


def reply(references: str, *, sender: str, number: int = 1) -> dict[str, Any]:
    return {
        "source": "mail",
        "event_id": str(number),
        "sender": sender,
        "recipient": "desk@example.com",
        "body": "Yes",
        "metadata": {"references": references},
    }


async def test_an_email_joins_the_conversation_of_what_it_answers(stub: Any, book: Book) -> None:
    message = await under_way(book, **EMAIL)
    await answer(book, message, "sendgrid", "14c5d75ce93.dfd.64b469")
    home = await book.value("SELECT conversation_id::text FROM messages")
    bodies = [
        f"<unknown@example.net> <{message.id}@example.com>",
        "<14c5d75ce93.dfd.64b469@geopod-ismtpd-1>",
        f"<{new_id()}@example.com>",
    ]
    for number, references in enumerate(bodies):
        headers = (
            f"From: Ann <ann@private.example>\r\nMessage-ID: <{number}@mail.example>\r\n"
            f"References: {references}\r\nSubject: Re: Hi\r\n\r\nYes"
        )
        request = raw_email(headers, "desk@example.com")
        assert (await stub.IngestWebhook(passed_on("sendgrid", request))).applied_count == 1
    found = await book.rows(
        "SELECT conversation_id::text FROM messages WHERE direction = 'inbound' ORDER BY id"
    )
    assert [conversation == home for (conversation,) in found] == [True, True, False]
    assert await book.rows("SELECT message_count, inbound_count FROM conversations WHERE id = %s", home) == [
        (3, 2)
    ]


async def test_an_answer_to_what_was_sent_joins_it_wherever_it_was_answered_to(stub: Any, book: Book) -> None:
    message = await under_way(book, **EMAIL)
    await answer(book, message, "sendgrid", "14c5d75ce93.dfd.64b469")
    mail = mail_of(outbound(message), email_parts(outbound(message, reply_to={"*": "mail@in.example.com"})))
    assert mail["reply_to"] == {"email": "mail@in.example.com"}
    request = raw_email(
        "From: Ann <ann@private.example>\r\nTo: mail@in.example.com\r\nMessage-ID: <1@mail.example>\r\n"
        f"In-Reply-To: {mail['headers']['Message-ID']}\r\nSubject: Re: Hi\r\n\r\nYes",
        "mail@in.example.com",
    )
    assert (await stub.IngestWebhook(passed_on("sendgrid", request))).applied_count == 1
    # One conversation, that of the message.
    assert await book.rows("SELECT message_count, inbound_count FROM conversations") == [(2, 1)]


def raw_email(text: str, recipient: str) -> WebhookRequest:
    """Return a request of Inbound Parse that hands over the whole message."""
    envelope = orjson.dumps({"from": "bounce@example.net", "to": [recipient]}).decode()
    parts = "".join(
        f'--frontier\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in (("email", text), ("envelope", envelope))
    )
    return WebhookRequest(
        "POST",
        f"{BASE}/api/v1/webhooks/sendgrid?token={PARSE_TOKEN.replace('+', '%2B').replace(' ', '+')}",
        {"content-type": "multipart/form-data; boundary=frontier"},
        f"{parts}--frontier--\r\n".encode(),
    )


async def test_an_email_of_25_megabytes_comes_through(stub: Any, book: Book) -> None:
    request = raw_email(f"From: ann@example.org\r\nMessage-ID: <1@x.example>\r\n\r\n{'x' * 25_000_000}",
                        "desk@example.com")  # fmt: skip
    assert (await stub.IngestWebhook(passed_on("sendgrid", request), timeout=120)).applied_count == 1
    assert await book.value("SELECT length(body) FROM webhook_logs") == len(request.body)


async def test_without_verification_loopback_alone_is_believed(
    start_process: StartProcess, book: Book, refusal: Refused
) -> None:
    stub = await start_process(webhook_verification=False, webhook_base_url=BASE)
    unsigned = replace(sms("SM1"), headers={"content-type": "application/x-www-form-urlencoded"})
    proxied = replace(unsigned, headers={**unsigned.headers, "x-forwarded-for": "127.0.0.1"})
    for request, address in ((unsigned, "203.0.113.9"), (proxied, "127.0.0.1"), (unsigned, "")):
        error = await refusal(stub.IngestWebhook(passed_on("twilio", request, address)))
        assert error.reason == "WEBHOOK_FORGED"
    done = await stub.IngestWebhook(passed_on("twilio", unsigned, "127.0.0.1"))
    assert done.applied_count == 1
    assert await book.rows("SELECT verdict FROM webhook_logs ORDER BY id") == [("forged",)] * 3 + [
        ("unverified",)
    ]
