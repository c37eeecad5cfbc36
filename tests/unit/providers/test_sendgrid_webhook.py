"""SendGrid's Event Webhook: what is genuine, and what it says."""

import base64
import random
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from services.providers.base import MalformedWebhookError, Receipt, WebhookRequest
from services.providers.sendgrid import SendGridConfig, SendGridProvider
from services.providers.sendgrid_webhook import parse_events
from tests.unit.providers.sendgrid_requests import (
    SIGNATURE,
    STRANGER,
    TIMESTAMP,
    TOKEN,
    TOKEN_URL,
    event,
    events,
    public_key,
    signed,
)

PROVIDER = SendGridProvider(SendGridConfig("key", public_key=public_key(), inbound_token=TOKEN))
BODY = events(event("delivered"), event("open"))


@pytest.mark.parametrize("age", [0, 295, -295])
def test_a_fresh_signature_is_genuine(age: int) -> None:
    assert PROVIDER.verify(signed(BODY, age=age))


def test_a_key_with_line_breaks_is_the_same_key() -> None:
    text = public_key()
    provider = SendGridProvider(SendGridConfig("key", public_key=f" {text[:64]}\n{text[64:]}\n"))
    assert provider.verify(signed(BODY))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "AAAA",
        public_key()[:-8],
        base64.b64encode(
            ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
            .public_key()
            .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        ).decode(),
    ],
)
def test_without_a_key_nothing_is_genuine(text: str) -> None:
    if not text:
        assert not SendGridProvider(SendGridConfig("key")).verify(signed(BODY))
        return
    with pytest.raises(ValueError, match="key"):
        SendGridProvider(SendGridConfig("key", public_key=text))


def with_headers(**replaced: str) -> WebhookRequest:
    request = signed(BODY)
    names = {"signature": SIGNATURE, "timestamp": TIMESTAMP, "content_type": "content-type"}
    return replace(
        request, headers={**request.headers, **{names[name]: text for name, text in replaced.items()}}
    )


def test_the_same_signature_in_another_spelling_is_not_sendgrids() -> None:
    request = signed(BODY)
    text = request.headers[SIGNATURE]
    # The last character before the padding has bits that decoding ignores.
    spare = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    padding = len(text) - len(text.rstrip("="))
    forms = [text + "=", text + "\n", " " + text, text.rstrip("=") + "====", text[:10] + "\n" + text[10:]]
    if padding:
        body = text.rstrip("=")
        forms.append(body[:-1] + spare[spare.index(body[-1]) ^ 1] + "=" * padding)
    for other in forms:
        assert not PROVIDER.verify(replace(request, headers={**request.headers, SIGNATURE: other})), other


@pytest.mark.parametrize(
    "forged",
    [
        pytest.param(signed(BODY, key=STRANGER), id="another key"),
        pytest.param(signed(BODY, timestamp=str(int(time.time()) - 100_000)), id="stale"),
        pytest.param(signed(BODY, timestamp=str(int(time.time()) + 100_000)), id="from the future"),
        pytest.param(signed(BODY, timestamp="9" * 5000), id="endless time"),
        pytest.param(signed(BODY, timestamp="now"), id="no time"),
        pytest.param(signed(BODY, timestamp="²"), id="odd digit"),
        pytest.param(signed(BODY, timestamp="-1"), id="before time"),
        pytest.param(with_headers(signature=""), id="empty signature"),
        pytest.param(with_headers(signature="é"), id="signature that is not ASCII"),
        pytest.param(with_headers(signature=base64.b64encode(b"0" * 70).decode()), id="no DER"),
        pytest.param(with_headers(timestamp=str(int(time.time()) + 7)), id="another time"),
        pytest.param(replace(signed(BODY), body=BODY[:-2]), id="body without its last line end"),
        pytest.param(replace(signed(BODY), body=BODY + b"\n"), id="longer body"),
        pytest.param(replace(signed(BODY), headers={}), id="no headers"),
        pytest.param(with_headers(content_type="multipart/form-data; boundary=x"), id="a form without token"),
        pytest.param(WebhookRequest("POST", TOKEN_URL, {}, BODY), id="a token is no signature"),
    ],
)
def test_everything_else_is_forged(forged: WebhookRequest) -> None:
    assert not PROVIDER.verify(forged)


def test_a_thousand_genuine_requests_are_accepted() -> None:
    draw = random.Random(21)  # noqa: S311 - seeded
    kinds = ["processed", "deferred", "delivered", "bounce", "open", "click", "unsubscribe"]
    texts = ["", "550 no such user", "¿Qué tal?", "🐎", '"\\/', "a\r\nb", "x" * 2000]
    for _ in range(1000):
        given = [
            event(draw.choice(kinds), reason=draw.choice(texts), sg_event_id=draw.randbytes(8).hex())
            for _ in range(draw.randrange(30))
        ]
        body = draw.choice([events(*given), orjson.dumps(given, option=orjson.OPT_INDENT_2)])
        # Not to the last of the 300 seconds: the machine may stand still for some.
        request = signed(body, age=draw.randrange(-200, 200))
        assert PROVIDER.verify(request), request
        assert len(PROVIDER.parse(request).receipts) == len(given)


def _flip_body(request: WebhookRequest, draw: random.Random) -> WebhookRequest:
    body = bytearray(request.body)
    body[draw.randrange(len(body))] ^= 1 << draw.randrange(8)
    return replace(request, body=bytes(body))


def _cut_or_double_body(request: WebhookRequest, draw: random.Random) -> WebhookRequest:
    start = draw.randrange(len(request.body))
    end = draw.randrange(start + 1, len(request.body) + 1)
    piece = request.body[start:end]
    body = request.body[:start] + (piece * 2 if draw.random() < 0.5 else b"") + request.body[end:]
    return replace(request, body=body)


def _flip_signature(request: WebhookRequest, draw: random.Random) -> WebhookRequest:
    signature = bytearray(base64.b64decode(request.headers[SIGNATURE]))
    signature[draw.randrange(len(signature))] ^= 1 << draw.randrange(8)
    text = base64.b64encode(signature).decode()
    return replace(request, headers={**request.headers, SIGNATURE: text})


def _change_character(request: WebhookRequest, draw: random.Random) -> WebhookRequest:
    name = draw.choice([SIGNATURE, TIMESTAMP])
    text = request.headers[name]
    place = draw.randrange(len(text) + 1)
    mark = chr(draw.choice([*range(32, 127), 0xB2, 0x661]))
    changed = text[:place] + mark + text[place + draw.randrange(2) :]
    # A character that is replaced by itself changes nothing.
    changed = changed if changed != text else text[1:]
    return replace(request, headers={**request.headers, name: changed})


def _change_numbers(request: WebhookRequest, draw: random.Random) -> WebhookRequest:
    r, s = decode_dss_signature(base64.b64decode(request.headers[SIGNATURE]))
    r, s = draw.choice([(s, r), (r + 1, s), (r, s + 1), (0, s), (r, 0), (1, 1), (r << 8, s)])
    text = base64.b64encode(encode_dss_signature(r, s)).decode()
    return replace(request, headers={**request.headers, SIGNATURE: text})


MUTATIONS: list[Callable[[WebhookRequest, random.Random], WebhookRequest]] = [
    _flip_body,
    _cut_or_double_body,
    _flip_signature,
    _change_character,
    _change_numbers,
]


def test_of_ten_thousand_mutations_none_is_accepted() -> None:
    draw = random.Random(20)  # noqa: S311 - seeded
    requests = [signed(events(*[event("open", ip=f"192.0.2.{n}")] * (n + 1))) for n in range(5)]
    assert all(PROVIDER.verify(request) for request in requests)
    for number in range(10_000):
        request = draw.choice(requests)
        mutant = MUTATIONS[number % len(MUTATIONS)](request, draw)
        assert mutant != request
        assert not PROVIDER.verify(mutant), mutant


def test_an_array_of_thirty_events_is_thirty_receipts() -> None:
    kinds = ["processed", "deferred", "delivered", "bounce", "dropped", "open", "click", "spamreport",
             "unsubscribe", "group_unsubscribe", "group_resubscribe"]  # fmt: skip
    given = [event(kinds[n % len(kinds)], timestamp=1767323045 + n) for n in range(30)]
    request = signed(events(*given))
    assert PROVIDER.verify(request)
    receipts = PROVIDER.parse(request).receipts
    assert len(receipts) == 30
    assert len({receipt.event_key for receipt in receipts}) == 30
    states = {
        "processed": "sent",
        "delivered": "delivered",
        "bounce": "undelivered",
        "dropped": "undelivered",
    }
    assert [receipt.state for receipt in receipts] == [
        states.get(kinds[n % len(kinds)], "") for n in range(30)
    ]


def receipt_of(**more: object) -> Receipt:
    kind = str(more.pop("kind", "delivered"))
    (receipt,) = parse_events(events(event(kind, **more))).receipts
    return receipt


def test_a_delivery_names_our_message_and_attempt() -> None:
    receipt = receipt_of(response="250 2.0.0 OK")
    assert replace(receipt, event_key="") == Receipt(
        event_key="",
        state="delivered",
        message_id="0199aaaa-0000-7000-8000-000000000001",
        provider_message_id="14c5d75ce93.dfd.64b469",
        attempt=2,
        provider_time=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        error_code="",
        detail="delivered: 250 2.0.0 OK",
    )


def test_a_bounce_says_why() -> None:
    receipt = receipt_of(kind="bounce", status="5.1.1", reason="550 no such user", type="bounce")
    assert (receipt.state, receipt.error_code, receipt.detail) == (
        "undelivered", "5.1.1", "bounce: 550 no such user",
    )  # fmt: skip
    dropped = receipt_of(kind="dropped", reason="Unsubscribed Address")
    assert (dropped.state, dropped.error_code, dropped.detail) == (
        "undelivered", "dropped", "dropped: Unsubscribed Address",
    )  # fmt: skip


def test_sendgrids_own_count_of_attempts_is_not_ours() -> None:
    receipt = receipt_of(kind="deferred", attempt="5", response="450 try again later")
    assert (receipt.attempt, receipt.state, receipt.detail) == (2, "", "deferred: 450 try again later")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0", "14c5d75ce93.dfd.64b469"),
        ("LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-5F5FC76C-9.0", "LRzXl_NHStOGhQ4kofSm_A"),
        ("xMGBpqgfQZy6SUwT5AEFzA.recvd-5f54b5d587-wczjl-1-62D0C1B4-4.0", "xMGBpqgfQZy6SUwT5AEFzA"),
        ("plain", "plain"),
        ("", ""),
        (None, ""),
    ],
)  # fmt: skip
def test_the_message_id_of_the_answer_begins_that_of_events(text: str | None, expected: str) -> None:
    assert receipt_of(sg_message_id=text).provider_message_id == expected


def test_the_key_outlives_a_change_of_the_event_id() -> None:
    assert receipt_of(sg_event_id="one").event_key == receipt_of(sg_event_id="two").event_key
    assert (
        receipt_of(sg_event_id="one", ip="192.0.2.1", url_offset={"index": 0}).event_key
        == receipt_of().event_key
    )


@pytest.mark.parametrize(
    "other",
    [
        {"kind": "open"},
        {"timestamp": 1767323046},
        {"email": "bob@example.com"},
        {"sg_message_id": "another.filter1"},
        {"url": "https://example.com/a"},
    ],
)
def test_other_events_have_other_keys(other: dict[str, object]) -> None:
    assert receipt_of(**other).event_key != receipt_of().event_key


def test_the_event_id_tells_apart_what_nothing_else_does() -> None:
    nothing = {"sg_message_id": None, "message_id": None, "smtp-id": None}
    keys = {
        parse_events(events(event("open", **nothing, sg_event_id=name))).receipts[0].event_key
        for name in ("one", "two", "two")
    }
    assert len(keys) == 2


@pytest.mark.parametrize("moment", [None, "", "soon", 1e300, -1e300, True, [], "NaN", "inf"])
def test_a_time_that_is_none_is_left_out(moment: object) -> None:
    assert receipt_of(timestamp=moment).provider_time is None


@pytest.mark.parametrize(
    ("text", "attempt"), [("7", 7), (7, 7), ("0", 0), ("32768", 0), ("-1", 0), ("x", 0), (None, 0), ("²", 0)]
)
def test_an_attempt_that_is_none_is_zero(text: object, attempt: int) -> None:
    assert receipt_of(message_attempt=text).attempt == attempt


def test_what_is_no_event_does_not_hold_up_its_neighbours(capsys: pytest.CaptureFixture[str]) -> None:
    body = orjson.dumps([None, 3, {}, {"event": 5}, event("account_status_change"), event("delivered")])
    content = parse_events(body)
    assert [receipt.state for receipt in content.receipts] == ["delivered"]
    assert content.refused_count == 5
    logged = "".join(capsys.readouterr())
    assert logged.count("webhook_events_passed_over") == 1
    assert "account_status_change" in logged


@pytest.mark.parametrize(
    ("body", "text"),
    [(b"", "not JSON"), (b"{", "not JSON"), (b"{}", "not a JSON array"), (b'"x"', "not a JSON array"),
     (b"\xff", "not JSON")],
)  # fmt: skip
def test_a_malformed_body_is_named(body: bytes, text: str) -> None:
    with pytest.raises(MalformedWebhookError, match=text):
        parse_events(body)


def test_no_nul_gets_through() -> None:
    receipt = receipt_of(kind="bounce", reason="a\0b", sg_message_id="a\0b", status="5\0")
    assert "\0" not in repr(receipt).replace("\\x00", "\0")
