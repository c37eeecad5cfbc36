"""SendGrid's webhooks under fire: whatever comes in is refused, understood or named malformed."""

import base64
import time

import orjson
from hypothesis import given
from hypothesis import strategies as st

from services.providers.base import MalformedWebhookError, WebhookRequest
from services.providers.sendgrid import SendGridConfig, SendGridProvider
from services.providers.sendgrid_webhook import parse_events
from tests.unit.message.drafts import check_draft
from tests.unit.providers.sendgrid_requests import (
    RAW,
    SIGNATURE,
    TIMESTAMP,
    TOKEN,
    TOKEN_URL,
    URL,
    event,
    form,
    mail,
    public_key,
)

PROVIDER = SendGridProvider(SendGridConfig("key", public_key=public_key(), inbound_token=TOKEN))

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
EVENT = st.dictionaries(
    st.sampled_from([*event("delivered"), "event", "reason", "response", "status", "url"]),
    JSON | st.sampled_from(["delivered", "bounce", "1", "14c5.filter1"]),
)


@given(st.lists(EVENT | JSON))
def test_no_event_is_unexpected(given_events: list[object]) -> None:
    try:
        body = orjson.dumps(given_events)
    except orjson.JSONEncodeError:  # an integer beyond 64 bits, a lone surrogate
        return
    for receipt in parse_events(body).receipts:
        assert receipt.event_key
        assert "\0" not in receipt.message_id + receipt.provider_message_id + receipt.detail
        assert 0 <= receipt.attempt < 1 << 15


@given(st.binary())
def test_no_body_of_events_is_unexpected(body: bytes) -> None:
    try:
        parse_events(body)
    except MalformedWebhookError:
        return


@given(
    st.sampled_from([URL, TOKEN_URL, f"{URL}?token=", "http://[", ""]) | st.text(max_size=40),
    st.fixed_dictionaries(
        {},
        optional={
            "content-type": st.sampled_from(["application/json", "multipart/form-data"])
            | st.text(max_size=20),
            SIGNATURE: st.binary(max_size=80).map(lambda data: base64.b64encode(data).decode()) | st.text(),
            TIMESTAMP: st.just(str(int(time.time()))) | st.integers().map(str) | st.text(max_size=14),
        },
    ),
    st.binary(max_size=40),
)
def test_no_proof_is_unexpected(url: str, headers: dict[str, str], body: bytes) -> None:
    genuine = url == TOKEN_URL and headers.get("content-type", "").lower() == "multipart/form-data"
    assert PROVIDER.verify(WebhookRequest("POST", url, headers, body)) is genuine


def check(request: WebhookRequest) -> None:
    """Check that a request is understood or malformed, and that all it says can be stored."""
    try:
        content = PROVIDER.parse(request)
    except MalformedWebhookError:
        return
    for inbound in content.inbound:
        check_draft(inbound)
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
def test_no_body_of_a_form_is_unexpected(body: bytes, boundary: str) -> None:
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
