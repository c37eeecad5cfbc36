"""An e-mail in a conversation answers the contact's newest one, by the headers of its thread."""

import pytest

from posthouse.v1 import message_service_pb2 as pb
from services.ledger.mail_threads import MailThread, thread_of
from tests.integration.ledger.rows import make_inbound

from .house import House
from .scripted import ScriptedProvider

_OURS, _CONTACT = "we@example.com", "ann@example.org"


@pytest.mark.integration
async def test_an_answer_names_what_it_answers(house: House, provider: ScriptedProvider) -> None:
    await house.dispatch(reply_to="*=mail@in.example.com")
    (first,) = await house.send("first", sender=_OURS, recipient=_CONTACT)
    await house.until("sent", first)
    await house.book.accept(
        make_inbound(
            "event",
            channel="email",
            sender=_CONTACT,
            recipient=_OURS,
            metadata='{"message_id_header": "<b@mail.example.org>", "references": "<a@example.com>"}',
        )
    )
    (answer,) = await house.send("answer", sender=_OURS, recipient=_CONTACT)
    await house.until("sent", answer)
    assert [(message.in_reply_to, tuple(message.references)) for message in provider.sent] == [
        ("", ()),
        ("<b@mail.example.org>", ("<a@example.com>", "<b@mail.example.org>")),
    ]
    assert [message.reply_to for message in provider.sent] == ["mail@in.example.com"] * 2


@pytest.mark.integration
async def test_a_message_may_say_itself_where_it_is_answered_to(
    house: House, provider: ScriptedProvider
) -> None:
    await house.dispatch(reply_to="*=mail@in.example.com")
    (named,) = await house.send("named", sender=_OURS, recipient=_CONTACT, reply_to="desk@example.net")
    (plain,) = await house.send("plain", sender=_OURS, recipient=_CONTACT)
    await house.until("sent", named)
    await house.until("sent", plain)
    assert {message.body: message.reply_to for message in provider.sent} == {
        "named": "desk@example.net",
        "plain": "mail@in.example.com",
    }
    stored = await house.stub.GetMessage(pb.GetMessageRequest(message_id=named))
    assert stored.message.reply_to == "desk@example.net"


def test_what_is_no_message_id_makes_no_header() -> None:
    assert thread_of("<a@b>", ["SM1", "<x y>", "<a@b>\r\nBcc: <c@d>"]) is None
    assert thread_of("<a@b> junk\r\n <c@d>", ["", "<e@f>"]) == MailThread(
        "<e@f>", ("<a@b>", "<c@d>", "<e@f>")
    )
    long = " ".join(f"<{number}@x>" for number in range(50))
    thread = thread_of(long, ["<last@x>"])
    assert thread is not None
    assert (len(thread.references), thread.references[0], thread.references[-1]) == (10, "<0@x>", "<last@x>")
