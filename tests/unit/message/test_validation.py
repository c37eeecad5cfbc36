"""What a send may contain: every rule from both sides, and what its draft says."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.v1.message_pb2 import Attachment
from posthouse.v1.message_service_pb2 import SendMessageRequest
from services.kit.errors import InvalidRequestError
from services.ledger.drafts import Draft
from services.ledger.threading import conversation_id
from services.message.validation import check_send

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ANN, BOB = "+15551234567", "+15559876543"
MEBIBYTE = 1 << 20
PICTURE = "https://cdn.example.com/cat.jpg"


def sms(**fields: Any) -> SendMessageRequest:
    return SendMessageRequest(**{"sender": ANN, "recipient": BOB, "body": "Hello", **fields})


def email(**fields: Any) -> SendMessageRequest:
    return sms(**{"sender": "ann@example.com", "recipient": "bob@example.com", **fields})


def check(request: SendMessageRequest, *, strict_phones: bool = False) -> Draft:
    return check_send(request, now=NOW, strict_phones=strict_phones)


def violations(request: SendMessageRequest, *, strict_phones: bool = False) -> dict[str, str]:
    with pytest.raises(InvalidRequestError) as refused:
        check(request, strict_phones=strict_phones)
    assert refused.value.reason == "INVALID_FIELD"
    return {violation.field: violation.description for violation in refused.value.violations}


def test_a_plain_sms_becomes_a_whole_draft() -> None:
    draft = check(sms(recipient="+1 555 987 6543"))
    assert draft == Draft(
        channel="sms",
        direction="outbound",
        sender=ANN,
        recipient=BOB,
        conversation_id=conversation_id("sms", ANN, BOB),
        family="sms",
        participant_a=ANN,
        participant_b=BOB,
        body="Hello",
        recipient_original="+1 555 987 6543",
        segment_count=1,
        segment_encoding="gsm7",
    )


def test_a_whole_email_becomes_a_whole_draft() -> None:
    later, last = NOW + timedelta(hours=1), NOW + timedelta(hours=2)
    draft = check(
        email(
            sender="Ann <ann@Example.com>",
            subject="Hi",
            html="<p>Hello</p>",
            attachments=[
                Attachment(content=b"\x00\x01", content_type="text/plain; charset=utf-8", filename="a.txt"),
                Attachment(url=PICTURE),
            ],
            metadata={"order": "7"},
            send_time=later,
            expire_time=last,
            priority="PRIORITY_HIGH",
            request_id="key-1",
            transactional=True,
            reply_to="Desk <desk@IN.example.com>",
        )
    )
    assert (draft.channel, draft.family, draft.priority) == ("email", "email", "high")
    assert (draft.sender, draft.sender_original) == ("ann@example.com", "Ann <ann@Example.com>")
    assert (draft.subject, draft.body, draft.html) == ("Hi", "Hello", "<p>Hello</p>")
    assert orjson.loads(draft.attachments or "") == [
        {
            "content": base64.b64encode(b"\x00\x01").decode(),
            "content_type": "text/plain; charset=utf-8",
            "filename": "a.txt",
        },
        {"url": PICTURE, "content_type": "", "filename": ""},
    ]
    assert orjson.loads(draft.metadata or "") == {"order": "7"}
    assert (draft.send_time, draft.expire_time) == (later, last)
    assert (draft.segment_count, draft.segment_encoding) == (0, None)
    assert (draft.request_id, draft.transactional) == ("key-1", True)
    assert draft.reply_to == "desk@in.example.com"


@pytest.mark.parametrize(
    ("request_", "channel"),
    [
        (sms(), "sms"),
        (sms(channel=1), "sms"),
        (sms(attachments=[Attachment(url=PICTURE)]), "mms"),
        (sms(channel=1, attachments=[Attachment(url=PICTURE)]), "mms"),
        (sms(channel=2, body="", attachments=[Attachment(url=PICTURE)]), "mms"),
        (sms(channel=4), "voice"),
        (email(), "email"),
        (email(channel=3, body="", html="<p>"), "email"),
        (sms(sender="12345"), "sms"),
        (sms(sender="Posthouse"), "sms"),
    ],
)
def test_channels_follow_from_the_request(request_: SendMessageRequest, channel: str) -> None:
    draft = check(request_)
    assert draft.channel == channel
    assert draft.segment_count == (1 if channel == "sms" else 0)


def attached(**fields: Any) -> SendMessageRequest:
    return sms(attachments=[Attachment(**fields)])


@pytest.mark.parametrize(
    ("request_", "field", "why"),
    [
        (sms(sender=""), "sender", "empty"),
        (sms(sender="no-such address"), "sender", "neither"),
        (sms(sender="ann@example.com"), "sender", "phone number or sender id for sms"),
        (email(sender=ANN), "sender", "e-mail address for email"),
        (email(sender="Posthouse"), "sender", "e-mail address for email"),
        (sms(recipient=""), "recipient", "empty"),
        (sms(recipient="nobody"), "recipient", "neither"),
        (sms(recipient="12345"), "recipient", "country code"),
        (sms(recipient="+1 555 123 4567"), "recipient", "must not be the sender"),
        (sms(channel=99), "channel", "not a known"),
        (sms(channel=3), "channel", "does not reach"),
        (email(channel=1), "channel", "does not reach"),
        (email(channel=4), "channel", "does not reach"),
        (sms(channel=2), "attachments", "must not be empty for mms"),
        (sms(body=""), "body", "empty"),
        (email(body="", subject="Hi"), "body", "empty"),
        (sms(body="a" * 1601), "body", "1600"),
        (sms(body="a" * 1601, attachments=[Attachment(url=PICTURE)]), "body", "1600"),
        (sms(channel=4, body="a" * 4001), "body", "4000"),
        (sms(body="a\0b"), "body", "NUL"),
        (email(body="a" * (MEBIBYTE + 1)), "body", "bytes"),
        (email(body="é" * (MEBIBYTE // 2 + 1)), "body", "bytes"),
        (email(html="a" * (MEBIBYTE + 1)), "html", "bytes"),
        (email(html="a\0"), "html", "NUL"),
        (sms(html="<p>"), "html", "e-mail only"),
        (sms(subject="Hi"), "subject", "e-mail only"),
        (email(subject="a" * 999), "subject", "998"),
        (email(subject="a\r\nBcc: x@example.com"), "subject", "line breaks"),
        (email(subject="a\rb"), "subject", "line breaks"),
        (email(subject="a\0"), "subject", "NUL"),
        (sms(reply_to="desk@example.com"), "reply_to", "e-mail only"),
        (email(reply_to="desk@"), "reply_to", "not a valid e-mail"),
        (email(reply_to="desk"), "reply_to", "must be an e-mail"),
        (email(reply_to="a@example.com, b@example.com"), "reply_to", "not a valid e-mail"),
        (email(reply_to="+15551234567"), "reply_to", "must be an e-mail"),
        (sms(attachments=[Attachment(url=PICTURE)] * 11), "attachments", "more than 10"),
        (
            email(attachments=[Attachment(content=b"a" * n) for n in (1, 10 * MEBIBYTE)]),
            "attachments",
            "bytes",
        ),
        (sms(attachments=[Attachment(url=PICTURE), Attachment()]), "attachments[1].url", "empty"),
        (attached(url="ftp://example.com/a"), "attachments[0].url", "http or https"),
        (attached(url="javascript:alert(1)"), "attachments[0].url", "http or https"),
        (attached(url="/a.jpg"), "attachments[0].url", "http or https"),
        (attached(url="https://"), "attachments[0].url", "http or https"),
        (attached(url="https:///a.jpg"), "attachments[0].url", "http or https"),
        (attached(url="https://:443/a"), "attachments[0].url", "http or https"),
        (attached(url="https://u:p@example.com/"), "attachments[0].url", "credentials"),
        (attached(url="https://[::1/"), "attachments[0].url", "valid URL"),
        (attached(url="https://example.com:99999/"), "attachments[0].url", "valid URL"),
        (attached(url="https://example.com/a b"), "attachments[0].url", "spaces"),
        (attached(url="ht\ntps://example.com/"), "attachments[0].url", "spaces"),
        (attached(url="https://example.com\\@evil.example/"), "attachments[0].url", "backslashes"),
        (attached(url="https://example.com/\0"), "attachments[0].url", "control"),
        (attached(url="https://example.com/" + "a" * 2048), "attachments[0].url", "2048"),
        (attached(content=b"x"), "attachments[0].content", "e-mail only"),
        (email(attachments=[Attachment(content=b"x", url=PICTURE)]), "attachments[0].url", "must be empty"),
        (attached(url=PICTURE, content_type="jpeg"), "attachments[0].content_type", "media type"),
        (attached(url=PICTURE, content_type="a/b\r\nX: y"), "attachments[0].content_type", "media type"),
        (attached(url=PICTURE, content_type="a/" + "b" * 254), "attachments[0].content_type", "media type"),
        (attached(url=PICTURE, filename="a" * 256), "attachments[0].filename", "255"),
        (attached(url=PICTURE, filename="a\nb"), "attachments[0].filename", "control"),
        (sms(metadata={str(n): "" for n in range(51)}), "metadata", "50 pairs"),
        (sms(metadata={"": "v"}), "metadata", "empty key"),
        (sms(metadata={"k" * 65: ""}), "metadata", "key longer"),
        (sms(metadata={"k": "v" * 501}), "metadata", "value longer"),
        (sms(metadata={"k": "\0"}), "metadata", "NUL"),
        (sms(metadata={"\0": "v"}), "metadata", "NUL"),
        (sms(send_time=NOW + timedelta(days=35, seconds=1)), "send_time", "35 days"),
        (sms(expire_time=NOW), "expire_time", "in the future"),
        (
            sms(send_time=NOW + timedelta(2), expire_time=NOW + timedelta(2)),
            "expire_time",
            "the time of sending",
        ),
        (sms(priority=9), "priority", "not a known"),
        (sms(request_id="a" * 256), "request_id", "visible ASCII"),
        (sms(request_id="a b"), "request_id", "visible ASCII"),
        (sms(request_id="é"), "request_id", "visible ASCII"),
        (sms(request_id="a\n"), "request_id", "visible ASCII"),
    ],
)
def test_each_rule_names_its_field_and_nothing_else(
    request_: SendMessageRequest, field: str, why: str
) -> None:
    found = violations(request_)
    assert list(found) == [field]
    assert why in found[field]


@pytest.mark.parametrize(
    "request_",
    [
        sms(body="€" * 1600),
        sms(channel=4, body="a" * 4000),
        email(body="a" * MEBIBYTE, html="é" * (MEBIBYTE // 2)),
        email(subject="a" * 998),
        sms(attachments=[Attachment(url=PICTURE)] * 10),
        email(attachments=[Attachment(content=b"a" * 5 * MEBIBYTE)] * 2),
        attached(url="http://localhost:8000/a?b=c@d#e", content_type='image/png; name="a b.png"'),
        attached(url="https://example.com/" + "a" * 2028, filename="ü" * 255, content_type="a/" + "b" * 253),
        sms(metadata={str(n) + "k" * 62: "v" * 500 for n in range(50)}),
        sms(send_time=NOW + timedelta(days=35)),
        sms(expire_time=NOW + timedelta(microseconds=1)),
        sms(request_id="!" + "~" * 254),
    ],
)
def test_every_bound_is_inclusive(request_: SendMessageRequest) -> None:
    check(request_)


def test_all_violations_come_together_in_the_order_of_the_fields() -> None:
    request = sms(
        sender="",
        recipient="nobody",
        attachments=[Attachment(url="x"), Attachment(url="y")],
        priority=9,
        request_id=" ",
    )
    assert list(violations(request)) == [
        "sender",
        "recipient",
        "attachments[0].url",
        "attachments[1].url",
        "priority",
        "request_id",
    ]


def test_an_unreadable_recipient_hides_no_other_fault() -> None:
    assert set(violations(sms(recipient="nobody", body=""))) == {"recipient", "body"}
    # Whether a subject fits cannot be told without a channel, so it is not held against the caller.
    assert set(violations(sms(recipient="nobody", subject="Hi"))) == {"recipient"}
    assert set(violations(sms(recipient="nobody", channel=1, subject="Hi"))) == {"recipient", "subject"}


def test_strict_refuses_possible_numbers_that_are_not_assigned() -> None:
    assert set(violations(sms(), strict_phones=True)) == {"sender", "recipient"}
    assert check(sms(sender="12345", recipient="+12025550123"), strict_phones=True).sender == "12345"


@pytest.mark.parametrize("seconds", [-3600, 0])
def test_a_send_time_that_is_not_ahead_means_at_once(seconds: int) -> None:
    assert check(sms(send_time=NOW + timedelta(seconds=seconds))).send_time is None


def test_an_expire_time_is_measured_from_now_when_send_time_has_passed() -> None:
    last = NOW + timedelta(seconds=1)
    assert check(sms(send_time=NOW - timedelta(days=1), expire_time=last)).expire_time == last


@pytest.mark.parametrize("field", ["send_time", "expire_time"])
@pytest.mark.parametrize("broken", [{"seconds": 1 << 60}, {"nanos": -1}, {"nanos": 2_000_000_000}])
def test_a_time_that_no_calendar_has_is_a_violation(field: str, broken: dict[str, int]) -> None:
    request = sms()
    time = getattr(request, field)
    time.FromDatetime(NOW + timedelta(hours=1))
    for name, value in broken.items():
        setattr(time, name, value)
    assert violations(request) == {field: "is not a valid time"}


def test_the_hash_tells_payloads_apart_but_not_keys() -> None:
    first = check(sms(request_id="a", metadata={"x": "1", "y": "2"})).request_hash
    assert first is not None
    assert len(first) == 16
    assert check(sms(request_id="b", metadata={"y": "2", "x": "1"})).request_hash == first
    assert check(sms(request_id="a", metadata={"x": "1"})).request_hash != first
    assert check(sms(metadata={"x": "1", "y": "2"})).request_hash is None


def test_checking_leaves_the_request_alone() -> None:
    request = sms(request_id="a", metadata={"x": "1"}, attachments=[Attachment(url=PICTURE)])
    before = request.SerializeToString(deterministic=True)
    check(request)
    assert request.SerializeToString(deterministic=True) == before


_text = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30)
_address = st.one_of(
    st.sampled_from([ANN, BOB, "a@example.com", "b@example.com", "12345", "Shop", ""]), _text
)
_attachment = st.builds(
    Attachment,
    url=st.one_of(st.sampled_from([PICTURE, "", "http://[", "https://a:b@c/"]), _text),
    content=st.binary(max_size=4),
    content_type=st.one_of(st.sampled_from(["", "image/png"]), _text),
    filename=_text,
)
_request = st.builds(
    SendMessageRequest,
    sender=_address,
    recipient=_address,
    channel=st.integers(0, 5),
    body=_text,
    subject=_text,
    html=_text,
    attachments=st.lists(_attachment, max_size=2),
    metadata=st.dictionaries(_text, _text, max_size=2),
    priority=st.integers(0, 4),
    request_id=st.one_of(st.just(""), st.just("k"), _text),
)


@given(_request)
def test_any_request_is_a_storable_draft_or_a_list_of_violations(request_: SendMessageRequest) -> None:
    fields = {field.name for field in SendMessageRequest.DESCRIPTOR.fields}
    try:
        draft = check(request_)
    except InvalidRequestError as error:
        faulty = {violation.field.partition("[")[0] for violation in error.violations}
        assert faulty
    else:
        faulty = set()
        texts = (draft.sender, draft.recipient, draft.body, draft.subject, draft.html, draft.metadata)
        assert not any("\0" in text or "\\u0000" in text for text in texts if text)
        assert draft.participant_a < draft.participant_b
    assert faulty <= fields
