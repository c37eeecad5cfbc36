"""SendGrid's Inbound Parse in raw mode: the MIME message is read, however its writer made it, in no time."""

import base64
import time

import pytest

from services.providers.base import Inbound
from services.providers.sendgrid_inbound import parse_inbound
from tests.unit.providers.sendgrid_requests import RAW, form


def test_raw_mode_reads_the_mime_message() -> None:
    fields: dict[str, str | bytes] = {
        "email": RAW,
        "to": "desk@posthouse.example",
        "from": "André <andre@example.com>",
        "envelope": '{"to":["desk@posthouse.example"],"from":"andre@example.com"}',
    }
    (inbound,) = parse_inbound(form(fields)).inbound
    assert inbound.sender == "André <andre@example.com>"
    assert inbound.subject == "Über Miete"
    assert inbound.body == "5 € “grüße”\n"
    assert inbound.html == "<p>dünn</p>\r\n"
    assert inbound.provider_message_id == "<raw-1@mail.example.com>"
    assert inbound.metadata["in_reply_to"] == "<parent@posthouse.example>"
    pdf, forwarded = inbound.attachments
    assert pdf == {
        "filename": "Müll.pdf", "content_type": "application/pdf", "size": 3, "content": "AAEC"
    }  # fmt: skip
    assert forwarded["content_type"] == "message/rfc822"
    assert b"inner text" in base64.b64decode(forwarded["content"])


def test_raw_mode_with_crlf_and_8bit_is_kept_byte_for_byte() -> None:
    html = "<p>é\r\n\t🐎</p>\r\n"
    raw = b"From: a@example.com\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + html.encode()
    (inbound,) = parse_inbound(form({"email": raw, "to": "desk@posthouse.example"})).inbound
    assert (inbound.sender, inbound.html, inbound.body) == ("a@example.com", html, "")


STRANGE_HEADS = [
    b"Content-Type: text/plain; charset=\"\xff\xfe\"; name*0*=x''%ff; name*1*=%zz",
    b"Content-Type: text/html; charset*=nonsense'en'%E9",
    b"Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n\xff=",
    b"Content-Type: text/plain\nContent-Transfer-Encoding: x-uuencode\n\nbegin 666 x\n\xff",
    b"Subject: =?utf-8?b?\xff?= =?x?q?=zz?= =?utf-8?b?A?=",
    b"Content-Disposition: attachment; filename*0=a; filename*1*=%E9",
    b"Content-Type: multipart/mixed; boundary=x\nContent-Transfer-Encoding: base64",
    b"\xff: \xff\n\xff",
    # The body is not ASCII, and its charset is none, or said in the form of RFC 2231.
    b'Content-Type: text/plain; charset="a\0b"\n\n\xff',
    b"Content-Type: text/plain; charset*=utf-8'en'utf-8\n\n\xff",
]


@pytest.mark.parametrize("head", STRANGE_HEADS)
def test_raw_mode_survives_what_strangers_write(head: bytes) -> None:
    inbound = raw_email(head + b"\n\nbody")
    assert (inbound.sender, inbound.recipient) == ("a@example.com", "desk@posthouse.example")


def raw_email(raw: bytes) -> Inbound:
    fields: dict[str, str | bytes] = {"email": raw, "from": "a@example.com", "to": "desk@posthouse.example"}
    (inbound,) = parse_inbound(form(fields)).inbound
    return inbound


SLOW = {
    "parts within parts": b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(3000)
    ),
    "messages within messages": b"Content-Type: message/rfc822\n\n" * 540,
    "an endless type": b"Content-Type: " + b"a;" * 500_000,
    "an endless parameter": b'Content-Type: text/plain; charset="' + b';"' * 200_000,
    "many parts": b"Content-Type: multipart/mixed; boundary=x\n\n" + b"--x\n\na\n" * 60_000,
    "many headers": b"X: y\n" * 500_000,
    "endless references": b"References: " + b"\n <a@b>" * 200_000,
    "comments within comments": b"From: " + b"(" * 20_000 + b"\nTo: " + b"(" * 20_000,
}


@pytest.mark.parametrize("case", SLOW)
def test_no_message_keeps_the_reader_busy(case: str) -> None:
    start = time.process_time()
    raw_email(SLOW[case] + b"\n\nbody")
    # Each would take from several seconds to minutes, or end in RecursionError.
    assert time.process_time() - start < 2.0


@pytest.mark.parametrize(
    "raw",
    [
        b"Content-Type: message/rfc822\n\n" * 60 + b"body",
        b"Content-Type: multipart/mixed; boundary=x\n\n" + b"--x\nContent-Type: a/b\n\na\n" * 1100,
    ],
)
def test_what_is_too_intricate_is_one_text(raw: bytes) -> None:
    inbound = raw_email(raw)
    assert (inbound.body, inbound.attachments) == (raw.decode(), [])
