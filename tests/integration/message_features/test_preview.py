"""PreviewMessage on the real ledger: it says what a send does, and leaves no trace."""

from typing import Any

import pytest
import sqlalchemy as sa

from posthouse.v1 import message_pb2
from posthouse.v1 import message_service_pb2 as pb
from services.ledger.tables import metadata
from services.ledger.threading import conversation_id
from tests.integration.dispatch.house import House
from tests.integration.dispatch.scripted import ScriptedProvider
from tests.integration.ledger.rows import CONTACT, OURS

from .conftest import Contact

pytestmark = pytest.mark.integration


def sms(**fields: Any) -> pb.SendMessageRequest:
    return pb.SendMessageRequest(**{"sender": OURS, "recipient": CONTACT, "body": "hello", **fields})


async def preview(house: House, request: pb.SendMessageRequest) -> pb.PreviewMessageResponse:
    return await house.stub.PreviewMessage(pb.PreviewMessageRequest(message=request))


def reasons(response: pb.PreviewMessageResponse) -> list[str]:
    assert response.acceptable == (not response.refusals)
    return [refusal.reason for refusal in response.refusals]


async def counts(house: House) -> dict[str, int]:
    async with house.database.read() as connection:
        return {
            name: (await connection.scalar(sa.select(sa.func.count()).select_from(table)))
            for name, table in metadata.tables.items()
        }


async def test_says_what_the_send_then_does(house: House) -> None:
    request = sms(recipient="+1 (555) 987-6543", body="€" * 80 + "é 😀")
    before = await preview(house, request)
    assert reasons(before) == []
    assert not before.conversation_exists
    accepted = (await house.stub.SendMessage(request)).message
    for name in (
        "channel",
        "sender",
        "recipient",
        "conversation_id",
        "segment_encoding",
        "segment_count",
    ):
        assert getattr(before, name) == getattr(accepted, name)
    assert (before.character_count, list(before.ucs2_characters)) == (83, ["😀"])
    assert list(before.route) == ["scripted"]
    assert (await preview(house, request)).conversation_exists


async def test_nothing_is_stored_and_nothing_is_sent(
    house: House, contact: Contact, provider: ScriptedProvider
) -> None:
    await house.dispatch()
    (sent,) = await house.send("first", request_id="used")
    # Not before it is sent: an opt-out that comes first would have it refused.
    await house.until("sent", sent)
    await contact.says("STOP")
    await house.until_outbox_is_empty()
    was = await counts(house)
    for request in (
        sms(),
        sms(recipient="+15557654321"),
        sms(request_id="new", recipient="+15557654321"),
        sms(request_id="used"),
        sms(sender="a@example.com", recipient="b@example.com", transactional=True),
        pb.SendMessageRequest(),
    ):
        await preview(house, request)
    assert await counts(house) == was
    assert provider.bodies == ["first"]


async def test_addresses_are_shown_whatever_else_is_wrong(house: House) -> None:
    response = await preview(
        house, sms(recipient="+1 555 987 6543", body="x" * 1601, subject="no", request_id="a b")
    )
    assert (response.sender, response.recipient) == (OURS, CONTACT)
    assert response.conversation_id == conversation_id("sms", OURS, CONTACT)
    assert (response.segment_count, response.character_count) == (11, 1601)
    assert reasons(response) == ["INVALID_FIELD"]
    fields = [violation.field for violation in response.refusals[0].field_violations]
    assert fields == ["body", "subject", "request_id"]

    response = await preview(house, sms(recipient="nobody"))
    assert (response.sender, response.recipient, response.conversation_id) == (OURS, "", "")
    assert response.channel == message_pb2.CHANNEL_UNSPECIFIED
    assert not response.route


async def test_addresses_that_do_not_fit_share_no_conversation(house: House) -> None:
    response = await preview(house, sms(recipient="guest@example.org"))
    assert (response.channel, response.recipient) == (message_pb2.CHANNEL_EMAIL, "guest@example.org")
    assert response.conversation_id == ""
    response = await preview(house, sms(channel=message_pb2.CHANNEL_EMAIL))
    assert (response.channel, response.conversation_id) == (message_pb2.CHANNEL_EMAIL, "")


async def test_every_refusal_is_told(house: House, contact: Contact) -> None:
    await house.send("first", request_id="used")
    await contact.says("STOP")
    response = await preview(house, sms(channel=message_pb2.CHANNEL_VOICE, request_id="used"))
    # The key decides before consent does: a send would be told that it was used.
    assert reasons(response) == ["NO_ROUTE", "IDEMPOTENCY_KEY_REUSED"]
    assert response.refusals[0].field_violations[0].field == "channel"
    assert response.refusals[1].field_violations[0].field == "request_id"

    response = await preview(house, sms(body="", channel=message_pb2.CHANNEL_VOICE))
    assert reasons(response) == ["INVALID_FIELD", "NO_ROUTE", "OPTED_OUT"]
    assert response.refusals[2].field_violations[0].field == "recipient"


async def test_a_repeat_would_be_answered_again(house: House, contact: Contact) -> None:
    request = sms(request_id="used", body="first")
    await house.stub.SendMessage(request)
    await contact.says("STOP")
    assert reasons(await preview(house, request)) == []
    assert reasons(await preview(house, sms(body="first"))) == ["OPTED_OUT"]


async def test_transactional_is_for_email(house: House, contact: Contact) -> None:
    desk, guest = "desk@example.com", "guest@example.org"
    await contact.says("STOP", sender=guest, recipient=desk)
    assert reasons(await preview(house, sms(sender=desk, recipient=guest))) == ["OPTED_OUT"]
    allowed = sms(sender=desk, recipient=guest, transactional=True)
    assert reasons(await preview(house, allowed)) == []
    await contact.says("STOP")
    refused = await preview(house, sms(transactional=True))
    assert reasons(refused) == ["INVALID_FIELD", "OPTED_OUT"]


async def test_mms_and_email_have_no_segments(house: House) -> None:
    mms = sms(attachments=[message_pb2.Attachment(url="https://example.com/a.png")])
    for request, channel in (
        (mms, message_pb2.CHANNEL_MMS),
        (sms(sender="a@example.com", recipient="b@example.com"), message_pb2.CHANNEL_EMAIL),
    ):
        response = await preview(house, request)
        assert (response.channel, response.acceptable) == (channel, True)
        assert (response.segment_count, response.segment_encoding, response.character_count) == (0, 0, 5)
