"""The MIME message: what goes in comes out at the other end, and nothing in it becomes a header."""

import base64
import email.policy
from dataclasses import replace
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.providers.base import OutboundMessage
from services.providers.email_message import UnsendableError, ascii_address, build_email, email_parts
from services.providers.sendgrid import mail_of

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ID = "0199aaaa-0000-7000-8000-000000000001"
BASE = OutboundMessage(
    id=ID, attempt=1, channel="email", sender="desk@posthouse.example", recipient="ann@example.com",
    body="Hello", subject="Rent",
)  # fmt: skip


def built(**more: Any) -> bytes:
    return build_email(email_parts(replace(BASE, **more)), now=NOW)


def read(raw: bytes) -> EmailMessage:
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def content(part: Any) -> bytes:
    data = part.get_payload(decode=True)
    assert isinstance(data, bytes)
    return data


def test_answers_go_where_they_are_asked_to() -> None:
    assert b"To: ann@example.com\r\nReply-To: mail@in.example.com\r\n" in built(
        reply_to="mail@in.example.com"
    )
    assert mail_of(BASE, email_parts(replace(BASE, reply_to="mail@bücher.example")))["reply_to"] == {
        "email": "mail@xn--bcher-kva.example"
    }
    assert b"Reply-To" not in built()
    assert "reply_to" not in mail_of(BASE, email_parts(BASE))


def test_a_short_text_is_exactly_this() -> None:
    assert built() == (
        b"From: desk@posthouse.example\r\n"
        b"To: ann@example.com\r\n"
        b"Subject: Rent\r\n"
        b"Date: Fri, 02 Jan 2026 03:04:05 +0000\r\n"
        b"Message-ID: <0199aaaa-0000-7000-8000-000000000001@posthouse.example>\r\n"
        b"References: <0199aaaa-0000-7000-8000-000000000001@posthouse.example>\r\n"
        b"MIME-Version: 1.0\r\n"
        b'Content-Type: text/plain; charset="utf-8"\r\n'
        b"Content-Transfer-Encoding: 7bit\r\n"
        b"\r\n"
        b"Hello\r\n"
    )


HTML = "<p>\r\n <b>É</b>\t&nbsp;\u00a0=3D 🐎\r</p>\n\n"


def test_text_html_and_files_arrive_as_they_are() -> None:
    files = [
        {"content": base64.b64encode(bytes(range(256)) * 9).decode(), "content_type": "application/pdf",
         "filename": "Mietvertrag „Süd“.pdf"},
        {"content": "aGk=", "content_type": "text/calendar; method=REQUEST", "filename": "a.ics"},
        {"content": "aGk=", "content_type": "message/rfc822", "filename": ""},
    ]  # fmt: skip
    message = read(built(body="¿Qué tal? 🐎\n.\n..x\n" + "y" * 3000, html=HTML, attachments=files))
    assert message.get_content_type() == "multipart/mixed"
    alternative, pdf, calendar, opaque = message.iter_parts()
    text, html = alternative.iter_parts()
    assert (text.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    assert content(text).decode().replace("\r\n", "\n") == "¿Qué tal? 🐎\n.\n..x\n" + "y" * 3000 + "\n"
    assert content(html) == HTML.encode()
    assert html.get_content_charset() == "utf-8"
    assert content(pdf) == bytes(range(256)) * 9
    assert (pdf.get_filename(), pdf.get_content_disposition()) == ("Mietvertrag „Süd“.pdf", "attachment")
    assert (calendar.get_filename(), calendar["content-type"].params["method"]) == ("a.ics", "REQUEST")
    assert (opaque.get_content_type(), opaque.get_filename()) == ("application/octet-stream", "attachment")


def test_html_alone_is_one_part() -> None:
    message = read(built(body="", html=HTML))
    assert message.get_content_type() == "text/html"
    assert content(message) == HTML.encode()


def test_attachments_by_url_are_links_below_untouched_html() -> None:
    link = {"url": "https://files.example.com/a?b=1&c=2", "filename": 'x"<y>', "content_type": "a/b"}
    message = read(built(html=HTML, attachments=[link]))
    text, html = message.iter_parts()
    assert content(text) == b'Hello\r\n\r\nx"<y>: https://files.example.com/a?b=1&c=2\r\n'
    assert content(html).startswith(HTML.encode())
    assert content(html).endswith(
        b'\n<p><a href="https://files.example.com/a?b=1&amp;c=2">x&quot;&lt;y&gt;</a></p>'
    )
    only = read(built(body="", attachments=[link]))
    assert content(only) == b'x"<y>: https://files.example.com/a?b=1&c=2\r\n'


SUBJECTS = [
    "Rent",
    "",
    "Miete für März — 🐎",
    "x" * 998,
    "é" * 998,
    "word " * 190,
    "=?utf-8?q?=0D=0ABcc=3A_eve=40example=2Ecom?=",
    "=?utf-8?b?DQpCY2M6IGV2ZUBleGFtcGxlLmNvbQ==?=",
    "a =?utf-8?q?b?= c",
    "  spaces  ",
    '"quoted" <angle@example.com>, (comment',
]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_subject_is_read_as_it_was_written(subject: str) -> None:
    raw = built(subject=subject)
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998
    message = read(raw)
    shown = message["Subject"] or ""
    assert " ".join(shown.split()) == " ".join(subject.split())
    assert message.keys() == [
        "From", "To", *(["Subject"] if subject else []), "Date", "Message-ID", "References", "MIME-Version",
        "Content-Type", "Content-Transfer-Encoding",
    ]  # fmt: skip


BREAKS = ["\r\n", "\n", "\r", "\0", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"]


@pytest.mark.parametrize("mark", BREAKS)
def test_no_line_break_makes_a_header(mark: str) -> None:
    evil = f"a{mark}Bcc: eve@example.com{mark}{mark}<b>"
    files = [
        {"content": "aGk=", "content_type": f"text/plain{mark}Bcc: eve@example.com", "filename": evil},
        {"content": "aGk=", "content_type": f'text/plain; a="{evil}"', "filename": f"=?utf-8?q?{evil}?="},
    ]
    raw = built(subject=evil, attachments=files)
    message = read(raw)
    assert mark not in message["Subject"]
    for part in message.walk():
        assert "bcc" not in [name.lower() for name in part]
    assert b"\nBcc" not in raw.replace(b"\r", b"\n")
    assert len(list(message.iter_parts())) == 3


@pytest.mark.parametrize(
    "address",
    [
        "", "ann", "@example.com", "ann@", "a@b@c.example", "ann@example.com\r\nRCPT TO:<eve@example.com>",
        "a nn@example.com", "ann@exa mple.com", "<ann>@example.com", '"a b"@example.com',
        "ann@example.com,eve", "ann@-",
        "ann@\u2028x.example", "ann\u2028@example.com", "ann@xn--\udcff", "\udcff@example.com",
    ],
)  # fmt: skip
@pytest.mark.parametrize("field", ["sender", "recipient"])
def test_what_is_no_address_is_refused(address: str, field: str) -> None:
    with pytest.raises(UnsendableError) as raised:
        built(**{field: address})
    assert raised.value.code == "invalid_address"
    assert "example" not in str(raised.value)


def test_domains_are_written_in_ascii() -> None:
    assert ascii_address("Jane@Bücher.example") == "Jane@xn--bcher-kva.example"
    assert ascii_address("a@faß.example") == "a@xn--fa-hia.example"
    raw = built(sender="desk@bücher.example", recipient="ann@例え.example")
    message = read(raw)
    assert message["From"] == "desk@xn--bcher-kva.example"
    assert message["To"] == "ann@xn--r8jz45g.example"
    assert message["Message-ID"] == f"<{ID}@xn--bcher-kva.example>"


def test_a_local_part_beyond_ascii_is_written_in_utf8() -> None:
    parts = email_parts(replace(BASE, recipient="jörg@example.com"))
    assert parts.needs_utf8
    assert "To: jörg@example.com\r\n".encode() in build_email(parts, now=NOW)
    assert not email_parts(BASE).needs_utf8


@pytest.mark.parametrize("name", ["x" * 200 + ".pdf", "🐎" * 200 + ".jpeg", "🐎" * 200, "a." + "b" * 200])
def test_a_long_name_keeps_its_end_and_its_line(name: str) -> None:
    raw = built(attachments=[{"content": "aGk=", "content_type": "", "filename": name}])
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998
    _, part = read(raw).iter_parts()
    shown = part.get_filename()
    assert shown is not None
    assert shown[:60] == name[:60]
    assert len(shown) <= 75
    if name.endswith((".pdf", ".jpeg")):
        assert shown.endswith(name[-4:])


@pytest.mark.parametrize("text", ["%", "a", "é", 5, "aGk=\n", "aG k="])
def test_content_that_is_no_base64_is_refused(text: object) -> None:
    attachment = {"content": text, "content_type": "", "filename": ""}
    with pytest.raises(UnsendableError, match="base64"):
        built(attachments=[attachment])


def test_no_secret_text_is_in_a_repr() -> None:
    parts = email_parts(replace(BASE, html="<p>", attachments=[{"content": "aGk=", "filename": "f"}]))
    assert "Hello" not in repr(parts)
    assert "<p>" not in repr(parts)
    assert "b'hi'" not in repr(parts)


@given(st.text(), st.text(), st.text(), st.text(), st.text(max_size=60))
def test_nothing_makes_a_header_or_a_part(subject: str, body: str, html: str, name: str, kind: str) -> None:
    files = [{"content": "aGk=", "content_type": kind, "filename": name}]
    raw = built(subject=subject, body=body, html=html, attachments=files)
    head, _, _ = raw.partition(b"\r\n\r\n")
    names = [line.partition(b":")[0] for line in head.split(b"\r\n") if not line.startswith(b" ")]
    assert set(names) <= {b"From", b"To", b"Subject", b"Date", b"Message-ID", b"References",
                          b"MIME-Version", b"Content-Type"}  # fmt: skip
    message = read(raw)
    assert len(list(message.iter_parts())) == 2
    *_, attached = message.iter_parts()
    assert content(attached) == b"hi"
