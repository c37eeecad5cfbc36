"""SendGrid's Inbound Parse: what is genuine, charsets, raw mode, attachments, and no surprise in any form."""

import base64
import random
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.message.validation import inbound_draft
from services.providers import sendgrid_inbound
from services.providers.base import Inbound, MalformedWebhookError, WebhookRequest
from services.providers.sendgrid import SendGridConfig, SendGridProvider
from services.providers.sendgrid_inbound import parse_inbound
from tests.unit.providers.sendgrid_requests import TOKEN, TOKEN_URL, URL, form, mail, public_key

PROVIDER = SendGridProvider(SendGridConfig("key", public_key=public_key(), inbound_token=TOKEN))
PARENT = "<0199aaaa-0000-7000-8000-000000000001@posthouse.example>"


def received(**more: str | bytes) -> Inbound:
    (inbound,) = parse_inbound(form(mail(**more))).inbound
    return inbound


def test_the_token_of_the_url_is_the_proof() -> None:
    assert PROVIDER.verify(form(mail()))
    assert PROVIDER.verify(form(mail(), url=f"{URL}?a=b&token=token%2Bof%2Fthe%20tests&c=d"))


@pytest.mark.parametrize(
    "url",
    [
        URL,
        f"{URL}?token=",
        f"{URL}?token=wrong",
        f"{TOKEN_URL}x",
        TOKEN_URL[:-1],
        f"{URL}?Token=token%2Bof%2Fthe+tests",
        f"{URL}#token=token%2Bof%2Fthe+tests",
        f"{TOKEN_URL}&token=wrong",
        f"{TOKEN_URL}&token=token%2Bof%2Fthe+tests",
        f"{URL}?token=token+of/the+tests",
        f"{URL}?token=%ff\udcff",
        "http://[",
        "",
    ],
)
def test_any_other_token_is_forged(url: str) -> None:
    assert not PROVIDER.verify(form(mail(), url=url))


def test_no_mutation_of_the_token_is_accepted() -> None:
    draw = random.Random(3)  # noqa: S311 - seeded
    token = "4f9d1c07b2e84a55a0c3"
    provider = SendGridProvider(SendGridConfig("key", inbound_token=token))
    assert provider.verify(form(mail(), url=f"{URL}?token={token}"))
    for _ in range(2000):
        place = draw.randrange(len(token))
        mutant = token[:place] + draw.choice("0123456789abcdefABCDEF%+") + token[place + draw.randrange(2) :]
        if mutant != token:
            assert not provider.verify(form(mail(), url=f"{URL}?token={mutant}")), mutant


def test_without_a_token_configured_nothing_is_genuine() -> None:
    provider = SendGridProvider(SendGridConfig("key", public_key=public_key()))
    assert not provider.verify(form(mail(), url=f"{URL}?token="))
    assert not provider.verify(form(mail()))


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


RAW = b"""\
From: =?iso-8859-1?q?Andr=E9?= <andre@example.com>
To: desk@posthouse.example
Subject: =?utf-8?q?=C3=9Cber?= =?utf-8?q?_Miete?=
Message-ID: <raw-1@mail.example.com>
In-Reply-To: <parent@posthouse.example>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=outer

--outer
Content-Type: multipart/alternative; boundary=inner

--inner
Content-Type: text/plain; charset=windows-1252
Content-Transfer-Encoding: quoted-printable

5 =80 =93gr=FC=DFe=94

--inner
Content-Type: text/html; charset=iso-8859-1
Content-Transfer-Encoding: base64

PHA+ZPxubjwvcD4NCg==

--inner--
--outer
Content-Type: application/pdf; name="a.pdf"
Content-Disposition: attachment; filename*=utf-8''M%C3%BCll.pdf
Content-Transfer-Encoding: base64

AAEC
--outer
Content-Type: message/rfc822

Subject: forwarded

inner text
--outer--
"""


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


def check(request: WebhookRequest) -> None:
    """Check that a request is understood or malformed, and that all it says can be stored."""
    try:
        content = PROVIDER.parse(request)
    except MalformedWebhookError:
        return
    for inbound in content.inbound:
        assert inbound.event_key
        assert len(inbound.subject) <= 998
        assert all(len(value) <= 4000 for value in inbound.metadata.values())
        orjson.dumps([inbound.attachments, inbound.metadata])


FIELD = st.sampled_from([*mail(), "email", "cc", "attachment-info", "attachment1", ""])
VALUE = (
    st.binary(max_size=200)
    | st.text(max_size=50).map(lambda text: text.encode(errors="replace"))
    | st.sampled_from([value if isinstance(value, bytes) else value.encode() for value in mail().values()])
    | st.sampled_from([b'{"to":["a@b.example"],"from":"c@d.example"}', b'{"html":"utf-16"}', b"[]", RAW])
)


@given(
    st.dictionaries(FIELD, VALUE),
    st.lists(st.tuples(st.sampled_from(["attachment1", "text", "x"]), st.just("f"), st.just("a/b"), VALUE)),
)
def test_no_form_is_unexpected(fields: dict[str, bytes], files: list[tuple[str, str, str, bytes]]) -> None:
    check(form(fields, files))


@given(st.binary(), st.sampled_from(["", "; boundary=x", '; boundary="x', "; boundary=--", "; boundary"]))
def test_no_body_is_unexpected(body: bytes, boundary: str) -> None:
    check(WebhookRequest("POST", TOKEN_URL, {"content-type": f"multipart/form-data{boundary}"}, body))


HEADER = st.sampled_from(
    [b"Content-Type: ", b"Content-Disposition: ", b"Subject: ", b"From: ", b"Content-Transfer-Encoding: ",
     b"Content-ID: ", b"Date: ", b"References: "]
)  # fmt: skip
PIECE = st.sampled_from(
    [b"multipart/mixed; boundary=x", b"text/html; charset=", b"utf-16", b"message/rfc822", b"base64", b"--x",
     b"--x--", b"\n", b"\r\n\r\n", b"=?utf-8?q?=ff?=", b"filename*0*=utf-8''%ff", b"a@b.example",
     b"x-uuencode"]
)  # fmt: skip


@given(st.lists(HEADER | PIECE | st.binary(max_size=10), max_size=40))
def test_no_mime_message_is_unexpected(pieces: list[bytes]) -> None:
    envelope = '{"to":["a@b.example"],"from":"c@d.example"}'
    check(form({"email": b"".join(pieces), "envelope": envelope}))
