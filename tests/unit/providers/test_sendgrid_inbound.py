"""SendGrid's Inbound Parse: what it took apart is read whole, charsets, attachments, sender and key."""

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import orjson
import pytest

from services.message.validation import inbound_draft
from services.providers import sendgrid_inbound
from services.providers.base import Inbound, MalformedWebhookError, WebhookRequest
from services.providers.sendgrid_inbound import parse_inbound
from tests.unit.providers.sendgrid_requests import TOKEN_URL, form, mail

PARENT = "<0199aaaa-0000-7000-8000-000000000001@posthouse.example>"


def received(**more: str | bytes) -> Inbound:
    (inbound,) = parse_inbound(form(mail(**more))).inbound
    return inbound


def test_an_email_is_read_whole() -> None:
    inbound = received()
    assert replace(inbound, event_key="") == Inbound(
        event_key="",
        channel="email",
        sender="Ann Lee <ann@example.com>",
        recipient="desk@posthouse.example",
        body="Thanks!\r\n",
        subject="Re: Rent",
        html="<p>Thanks!</p>\r\n",
        attachments=[],
        provider_message_id="<reply-1@mail.example.com>",
        provider_time=None,  # written in 2015: a clock that is wrong
        metadata={
            "message_id_header": "<reply-1@mail.example.com>",
            "in_reply_to": PARENT,
            "references": f"<first@example.com> {PARENT}",
            "spf": "pass",
            "dkim": "{@example.com : pass}",
            "spam_score": "0.1",
        },
    )


def test_a_recent_date_is_the_time_of_the_email() -> None:
    moment = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
    assert received(headers=f"Date: {format_datetime(moment)}\n").provider_time == moment
    ahead = datetime.now(UTC) + timedelta(hours=2)
    assert received(headers=f"Date: {format_datetime(ahead)}\n").provider_time is None


TEXT = "Größe: 5 €, naïve “ok”"


@pytest.mark.parametrize(
    ("data", "declared", "expected"),
    [
        pytest.param("Größe ÿ".encode("iso-8859-1"), "ISO-8859-1", "Größe ÿ", id="latin-1"),
        pytest.param(TEXT.encode("windows-1252"), "windows-1252", TEXT, id="windows-1252"),
        pytest.param(TEXT.encode("windows-1252"), "iso-8859-1", TEXT, id="windows-1252 called latin-1"),
        pytest.param(TEXT.encode(), "UTF-8", TEXT, id="utf-8"),
        pytest.param(TEXT.encode(), "us-ascii", TEXT, id="utf-8 called ascii"),
        pytest.param(TEXT.encode("windows-1252"), "UTF-8", TEXT, id="windows-1252 called utf-8"),
        pytest.param(TEXT.encode("windows-1252"), "us-ascii", TEXT, id="windows-1252 called ascii"),
        pytest.param(TEXT.encode(), "klingon", TEXT, id="unknown charset"),
        pytest.param(TEXT.encode(), "base64", TEXT, id="a codec that is no charset"),
        pytest.param(TEXT.encode(), "unicode_escape", TEXT, id="a codec of programs"),
        pytest.param(TEXT.encode(), "", TEXT, id="nothing declared"),
        pytest.param(TEXT.encode(), "x" * 5000, TEXT, id="endless name"),
        pytest.param("日本語".encode("iso-2022-jp"), "iso-2022-jp", "日本語", id="a charset within ASCII"),
        pytest.param("你好".encode("gb18030"), "GB18030", "你好", id="gb18030"),
        pytest.param(TEXT.encode("utf-16"), "utf-16", TEXT, id="utf-16"),
        pytest.param(b"\x81\x8d", "windows-1252", "\ufffd\ufffd", id="no charset's"),
    ],
)
def test_each_field_is_decoded_by_its_charset(data: bytes, declared: str, expected: str) -> None:
    charsets = orjson.dumps({"html": declared, "subject": declared, "text": "utf-8"})
    inbound = received(html=data, text="plain", charsets=charsets)
    assert inbound.html == expected
    assert inbound.body == "plain"


def test_html_is_kept_byte_for_byte() -> None:
    html = "<p>\r\n  <b>A</b>\n\t=3D &nbsp;\u00a0 é 🐎\r</p>\n\n"
    assert received(html=html).html == html
    assert received(html="", text="").html == ""


@pytest.mark.parametrize(
    "charsets", ["", "{", "[]", "null", '{"html": 5}', '{"html": "\\u0000"}', b"\xff", "[[" * 2000]
)
def test_charsets_that_are_none_do_not_matter(charsets: str | bytes) -> None:
    assert received(charsets=charsets, html="é").html == "é"


def test_attachments_are_kept_with_their_content(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sendgrid_inbound, "MAX_KEPT_BYTES", 10)
    info = {
        "attachment1": {
            "filename": "Grüße.txt", "name": "x", "type": "text/plain", "content-id": "<ii_1>"
        },
        "attachment2": {"name": "big.bin"},
    }  # fmt: skip
    request = form(
        mail(attachments="3", **{"attachment-info": orjson.dumps(info)}),
        [
            ("attachment1", "ignored", "text/html", b"\x00\xff\r\n--x"),
            ("attachment2", "x", "application/octet-stream", b"12345"),
            ("attachment3", "pic.png", "image/png", b"123"),
        ],
    )
    (inbound,) = parse_inbound(request).inbound
    assert inbound.attachments == [
        {
            "filename": "Grüße.txt",
            "content_type": "text/plain",
            "size": 7,
            "content_id": "ii_1",
            "content": base64.b64encode(b"\x00\xff\r\n--x").decode(),
        },
        # Too much together with the first: known, not kept.
        {"filename": "big.bin", "content_type": "application/octet-stream", "size": 5},
        {"filename": "pic.png", "content_type": "image/png", "size": 3, "content": "MTIz"},
    ]


@pytest.mark.parametrize(
    ("header", "envelope", "expected"),
    [
        ("Ann Lee <ann@example.com>", "x@y.example", "Ann Lee <ann@example.com>"),
        ("ann@example.com", "x@y.example", "ann@example.com"),
        ('"Lee, Ann" <ann@example.com>', "x@y.example", "ann@example.com"),
        ("=?utf-8?q?Andr=C3=A9?= <a@example.com>", "x@y.example", "André <a@example.com>"),
        # A name that decodes to an address must not become the sender.
        ("=?utf-8?q?boss=40example=2Ecom=2C?= <eve@example.com>", "x@y.example", "eve@example.com"),
        ("=?utf-8?q?=3Cboss=40example=2Ecom=3E?= <eve@example.com>", "x@y.example", "eve@example.com"),
        ("boss@example.com <eve@example.com>", "x@y.example", "eve@example.com"),
        (f"{'A' * 400} <ann@example.com>", "x@y.example", "ann@example.com"),
        ("", "ann@example.com", "ann@example.com"),
        ("undisclosed", "ann@example.com", "ann@example.com"),
    ],
)
def test_the_sender_is_who_wrote_it(header: str, envelope: str, expected: str) -> None:
    told = orjson.dumps({"to": ["desk@posthouse.example"], "from": envelope})
    inbound = received(**{"from": header}, headers=f"From: {header}\n", envelope=told)
    assert inbound.sender == expected
    draft = inbound_draft(inbound, now=datetime.now(UTC))
    assert draft.sender == expected.rpartition("<")[2].rstrip(">")


def test_each_of_our_addresses_gets_the_email() -> None:
    envelope = '{"to":["desk@posthouse.example","rent@posthouse.example"],"from":"ann@example.com"}'
    content = parse_inbound(form(mail(envelope=envelope)))
    assert [item.recipient for item in content.inbound] == [
        "desk@posthouse.example",
        "rent@posthouse.example",
    ]
    assert len({item.event_key for item in content.inbound}) == 2


def test_without_an_envelope_the_headers_say_to_whom() -> None:
    assert received(envelope="").recipient == "desk@posthouse.example"


@pytest.mark.parametrize(
    "fields",
    [
        {"to": "", "envelope": ""},
        {"from": "", "envelope": '{"to":["desk@posthouse.example"]}'},
        {"to": "nobody", "envelope": '{"to":[5, "x"],"from":7}'},
    ],
)
def test_an_email_from_nobody_or_to_nobody_is_malformed(fields: dict[str, str]) -> None:
    with pytest.raises(MalformedWebhookError, match="from, to and envelope"):
        parse_inbound(form(mail(**fields)))


def test_the_key_is_the_message_id_and_the_envelope() -> None:
    first = received()
    again = parse_inbound(form(mail(spam_score="9.9", html="<p>other</p>"), boundary="another")).inbound[0]
    assert again.event_key == first.event_key
    moved = '{"from":"bounce+7@example.com","to":["desk@posthouse.example"]}'
    assert received(envelope=moved).event_key == first.event_key
    other = '{"to":["desk@posthouse.example"],"from":"bounce+8@example.com"}'
    assert received(envelope=other).event_key != first.event_key
    assert received(headers="Message-ID: <other@example.com>\n").event_key != first.event_key


def test_without_a_message_id_the_text_is_the_key() -> None:
    assert received(headers="").event_key == received(headers="X: y\n").event_key
    assert received(headers="").event_key != received(headers="", text="Other").event_key


@pytest.mark.parametrize(
    "request_",
    [
        WebhookRequest("POST", TOKEN_URL, {"content-type": "multipart/form-data"}, b"x"),
        WebhookRequest("POST", TOKEN_URL, {"content-type": "multipart/form-data; boundary="}, b"--\r\n--"),
        WebhookRequest("POST", TOKEN_URL, {"content-type": "multipart/form-data; boundary=x"}, b""),
        WebhookRequest("POST", TOKEN_URL, {"content-type": "multipart/form-data; boundary=\udcff"}, b"x"),
        WebhookRequest(
            "POST", TOKEN_URL, {"content-type": f"multipart/form-data; boundary={'x' * 999}"}, b"x"
        ),
        replace(form(mail()), body=form(mail()).body[:-20]),
        replace(form(mail()), body=b"junk" + form(mail()).body),
        form({f"field{n}": "" for n in range(1001)}),
    ],
)
def test_a_body_that_is_no_form_is_malformed(request_: WebhookRequest) -> None:
    with pytest.raises(MalformedWebhookError, match=r"boundary|multipart/form-data|parts"):
        parse_inbound(request_)
