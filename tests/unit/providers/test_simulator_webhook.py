"""The simulator's webhook: signatures and strict parsing."""

import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.providers.base import MalformedWebhookError, WebhookRequest
from services.providers.simulator_webhook import parse_events, sign, verify_signature
from tests.unit.message.drafts import check_draft

BODY = b'[{"event":"delivered"}]'


RIGHT = "right"


def request(secret: str = RIGHT, *, age: int = 0, body: bytes = BODY, **replaced: str) -> WebhookRequest:
    timestamp = str(int(time.time()) - age)
    headers = {
        "x-posthouse-simulator-timestamp": timestamp,
        "x-posthouse-simulator-signature": sign(secret, timestamp, BODY),
    }
    headers |= {f"x-posthouse-simulator-{name}": value for name, value in replaced.items()}
    return WebhookRequest("POST", "http://gateway/", headers, body)


@pytest.mark.parametrize("age", [0, 290, -290])
def test_a_fresh_signature_of_the_right_secret_is_genuine(age: int) -> None:
    assert verify_signature("right", request(age=age))


@pytest.mark.parametrize(
    ("secret", "forged"),
    [
        pytest.param("right", request("wrong"), id="another secret"),
        pytest.param("", request(""), id="empty secret"),
        pytest.param("right", request(age=301), id="stale"),
        pytest.param("right", request(age=-86400), id="from the future"),
        pytest.param("right", request(body=BODY + b" "), id="another body"),
        pytest.param("right", request(timestamp=str(int(time.time()) + 5)), id="another time"),
        pytest.param("right", request(timestamp="now"), id="no time"),
        pytest.param("right", request(timestamp="9" * 5000), id="endless time"),
        pytest.param("right", request(timestamp="²"), id="odd digit"),
        pytest.param("right", request(signature=""), id="no signature"),
        pytest.param("right", request(signature="é\udcff"), id="signature that is not ASCII"),
        pytest.param("right", WebhookRequest("POST", "", {}, BODY), id="no headers"),
    ],
)
def test_everything_else_is_forged(secret: str, forged: WebhookRequest) -> None:
    assert not verify_signature(secret, forged)


def event(**replaced: Any) -> dict[str, Any]:
    return {
        "event": "delivered",
        "event_id": "SM1-delivered",
        "message_id": "0192",
        "attempt": 1,
        "provider_message_id": "SM1",
        "timestamp": "2026-01-02T03:04:05.678Z",
    } | replaced


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "body is not JSON"),
        (b"{", "body is not JSON"),
        (b"{}", "body is not a JSON array"),
        (b"[1]", r"\[0\] is not an object"),
        (orjson.dumps([event(), event(event=None)]), r"\[1\]\.event is not a text"),
        (orjson.dumps([{}]), r"\[0\]\.event is missing"),
        (orjson.dumps([event(message_id=5)]), "message_id is not a text"),
        (orjson.dumps([event(message_id="")]), "message_id is missing"),
        (orjson.dumps([event(message_id="a\0b")]), "message_id has a NUL"),
        (orjson.dumps([event(attempt=True)]), "attempt is not a number"),
        (orjson.dumps([event(attempt="1")]), "attempt is not a number"),
        (orjson.dumps([event(attempt=0)]), "attempt is not a number"),
        (orjson.dumps([event(attempt=40000)]), "attempt is not a number"),
        (orjson.dumps([event(provider_message_id=None)]), "provider_message_id is not a text"),
        (orjson.dumps([event(event="reply")]), "channel is missing"),
        (orjson.dumps([event(event="reply", channel="sms", to="+1", **{"from": 1})]), "from is not a text"),
    ],
)
def test_a_malformed_body_is_named_at_its_fault(body: bytes, text: str) -> None:
    with pytest.raises(MalformedWebhookError, match=text):
        parse_events(body)


@pytest.mark.parametrize("moment", ["yesterday", "2026-01-02T03:04:05", "", 7, None])
def test_a_time_that_is_none_is_left_out(moment: object) -> None:
    (receipt,) = parse_events(orjson.dumps([event(timestamp=moment)])).receipts
    assert receipt.provider_time is None


def test_unknown_events_are_passed_over() -> None:
    content = parse_events(
        orjson.dumps([event(event="opened"), event(event="undelivered", error_code="30003")])
    )
    assert [(receipt.state, receipt.error_code) for receipt in content.receipts] == [("undelivered", "30003")]
    assert content.refused_count == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), 1 << 63) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
EVENT = st.dictionaries(
    st.sampled_from([*event(), "channel", "from", "to", "body", "subject"]),
    JSON | st.sampled_from(["delivered", "reply", "undelivered", "sms", "+15551234567"]),
)


@given(st.lists(EVENT | JSON) | JSON)
def test_no_event_is_unexpected(given_events: object) -> None:
    try:
        content = parse_events(orjson.dumps(given_events))
    except (MalformedWebhookError, orjson.JSONEncodeError):  # the latter: a lone surrogate
        return
    for inbound in content.inbound:
        check_draft(inbound)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "x-posthouse-simulator-timestamp": st.integers().map(str) | st.text(max_size=14),
            "x-posthouse-simulator-signature": st.text(max_size=70),
        },
    ),
    st.binary(max_size=40),
)
def test_no_proof_is_unexpected(headers: dict[str, str], body: bytes) -> None:
    assert not verify_signature(RIGHT, WebhookRequest("POST", "", headers, body))
