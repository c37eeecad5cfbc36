"""Twilio's signatures: what the SDK signs is believed, and nothing that differs from it by anything."""

import base64
import hashlib
import random
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import quote_plus, unquote_plus, urlencode

import pytest
from twilio.request_validator import RequestValidator

from services.providers.base import MalformedWebhookError, WebhookRequest
from services.providers.twilio import TwilioConfig, TwilioProvider
from tests.unit.providers.twilio_carrier import (
    ACCOUNT,
    PUBLIC,
    SENDER,
    TOKEN,
    WEBHOOK,
    Values,
    form_request,
    json_request,
)

SHARED_KEY = "the-shared-key-of-webhooks"

PROVIDER = TwilioProvider(
    TwilioConfig(
        account_sid=ACCOUNT, auth_token=TOKEN, webhook_shared_key=SHARED_KEY, webhook_base_url=PUBLIC
    )
)

TEXTS = (
    "",
    "STOP",
    " spaces kept ",
    "100% & more + = ?",
    "¿Qué tal, señor?",
    "🐎🐎",
    "a\r\nb\tc",
    "x" * 1600,
)
PATHS = ("/api/v1/webhooks/twilio", "/webhook/twilio/sms", "/webhook/twilio/status")
QUERIES = ("", "?message_id=01927c3e-7b4a-7cc0-8000-3a5b8c2d1e0f&attempt=1", "?a=%2Fb&c=&d", "?x=1&x=2")


def genuine(draw: random.Random) -> WebhookRequest:
    """Return a request of Twilio's: any kind, any text, sometimes signed with the port."""
    sid = draw.choice(["SM", "MM"]) + f"{draw.getrandbits(128):032x}"
    pairs = [
        ("MessageSid", sid),
        ("AccountSid", ACCOUNT),
        ("From", f"+1555{draw.randrange(10**7):07d}"),
        ("To", SENDER),
        *draw.choice(
            [
                [("Body", draw.choice(TEXTS)), ("NumMedia", "0"), ("FromCity", draw.choice(TEXTS))],
                [("MessageStatus", draw.choice(["sent", "delivered", "read"])), ("ErrorCode", "")],
                [("Body", ""), ("NumMedia", "1"), ("MediaUrl0", "https://api.twilio.com/m?a=b&c=d")],
                [("Body", "x"), ("NewParameter", "2"), ("NewParameter", "10"), ("NewParameter", "")],
            ]
        ),
    ]
    draw.shuffle(pairs)
    target = draw.choice(PATHS) + draw.choice(QUERIES)
    if draw.random() < 0.2:
        return json_request(dict(pairs), url=PUBLIC + target)
    signed_url = draw.choice([PUBLIC, f"{PUBLIC}:443"]) + target
    # What reaches us names the host and port of whatever stands before us.
    seen = draw.choice([PUBLIC, "http://10.0.0.7:8000", "https://proxy.internal"]) + target
    return replace(form_request(pairs, url=signed_url), url=seen)


def test_a_thousand_genuine_requests_are_accepted() -> None:
    draw = random.Random(1)  # noqa: S311 - seeded
    for _ in range(1000):
        request = genuine(draw)
        assert PROVIDER.verify(request), request


def flip(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def with_signature(request: WebhookRequest, signature: str) -> WebhookRequest:
    return replace(request, headers={**request.headers, "x-twilio-signature": signature})


def mutate_signature(request: WebhookRequest, draw: random.Random) -> WebhookRequest:
    signature = request.headers["x-twilio-signature"]
    if draw.random() < 0.5:
        return with_signature(request, flip(signature.encode(), draw).decode("latin-1"))
    digest = flip(base64.b64decode(signature), draw)
    return with_signature(request, base64.b64encode(digest).decode())


def mutate_body(request: WebhookRequest, draw: random.Random) -> WebhookRequest:
    return replace(request, body=flip(request.body, draw))


def mutate_path(request: WebhookRequest, draw: random.Random) -> WebhookRequest:
    head, query, tail = request.url.partition("?")
    path = draw.choice([head + "/", head.replace("/twilio", "/Twilio"), head + "x", head[:-1], head + "%20"])
    return replace(request, url=path + query + tail)


def mutate_query(request: WebhookRequest, draw: random.Random) -> WebhookRequest:
    head, _, query = request.url.partition("?")
    parts = query.split("&") if query else []
    before = list(parts)
    kind = draw.randrange(4)
    if kind == 0:
        parts.append("added=1")
    elif kind == 1 and parts:
        parts.append(draw.choice(parts))
    elif kind == 2 and parts:
        parts.pop(draw.randrange(len(parts)))
    else:
        draw.shuffle(parts)
    return request if parts == before else replace(request, url=f"{head}?{'&'.join(parts)}")


def mutate_parameters(request: WebhookRequest, draw: random.Random) -> WebhookRequest:
    pairs = request.body.decode("latin-1").split("&")
    place = draw.randrange(len(pairs))
    name, _, value = pairs[place].partition("=")
    kind = draw.randrange(6)
    if kind == 0:
        pairs.insert(place, pairs[place])
    elif kind == 1:
        pairs.insert(place, f"{name}=other")
    elif kind == 2:
        pairs.insert(place, draw.choice(["Added=1", "Added=", "Added", "=", "", "%41=b"]))
    elif kind == 3:
        pairs.pop(place)
    elif kind == 4:
        pairs[place] = f"{name}={value}+"
    else:
        pairs[place] = f"{name.lower()}={value}"
    return replace(request, body="&".join(pairs).encode("latin-1"))


def mutate_headers(request: WebhookRequest, draw: random.Random) -> WebhookRequest:
    extra = draw.choice(
        [
            {"x-twilio-webhooks-signature-settings": "key=k,algorithm=HMAC_SHA256"},
            {"x-twilio-webhooks-signature-settings": "algorithm=HMAC_MD5"},
            {"x-twilio-signature": ""},
        ]
    )
    return replace(request, headers={**request.headers, **extra})


MUTATIONS: list[Callable[[WebhookRequest, random.Random], WebhookRequest]] = [
    mutate_signature,
    mutate_body,
    mutate_path,
    mutate_query,
    mutate_parameters,
    mutate_headers,
]


def test_of_ten_thousand_mutations_none_is_accepted() -> None:
    draw = random.Random(2)  # noqa: S311 - seeded
    done = dict.fromkeys(MUTATIONS, 0)
    while sum(done.values()) < 10_000:
        request = genuine(draw)
        mutation = draw.choice(MUTATIONS)
        mutated = mutation(request, draw)
        if mutated == request or (mutation is mutate_parameters and "bodySHA256" in request.url):
            continue  # nothing to change, or no form to change it in
        done[mutation] += 1
        assert not PROVIDER.verify(mutated), (mutation.__name__, request, mutated)
    assert min(done.values()) > 1000


def test_what_is_moved_between_a_name_and_its_value_changes_no_news() -> None:
    # They are signed with nothing between them, so that the signature alone does not tell.
    draw = random.Random(3)  # noqa: S311 - seeded
    signed = 0
    for _ in range(2000):
        request = genuine(draw)
        pairs = request.body.decode("latin-1").split("&")
        place = draw.randrange(len(pairs))
        name, _, value = pairs[place].partition("=")
        text = unquote_plus(value)
        if not text or "bodySHA256" in request.url:
            continue
        cut = draw.randrange(1, len(text) + 1)
        pairs[place] = f"{name}{quote_plus(text[:cut])}={quote_plus(text[cut:])}"
        moved = replace(request, body="&".join(pairs).encode())
        if not PROVIDER.verify(moved):
            continue
        signed += 1
        try:
            content = PROVIDER.parse(moved)
        except MalformedWebhookError:
            continue
        assert [replace(message, metadata={}) for message in content.inbound] == [
            replace(message, metadata={}) for message in PROVIDER.parse(request).inbound
        ]
        assert content.receipts == PROVIDER.parse(request).receipts
    assert signed > 100


@pytest.mark.parametrize(
    "origin",
    [
        "http://hooks.example.com",
        "https://hooks.example.com:8443",
        "https://hooks.example.org",
        "https://hooks.example.com.",
        "https://user@hooks.example.com",
        "HTTPS://hooks.example.com",
    ],
)
def test_a_signature_over_another_origin_is_refused_though_the_request_claims_it(origin: str) -> None:
    request = form_request({"MessageSid": "SM1"}, url=f"{origin}/api/v1/webhooks/twilio")
    assert not PROVIDER.verify(request)


@pytest.mark.parametrize(
    ("base", "signed"),
    [
        ("https://hooks.example.com", "https://hooks.example.com"),
        ("https://hooks.example.com", "https://hooks.example.com:443"),
        ("https://hooks.example.com:443/", "https://hooks.example.com"),
        ("http://hooks.example.com", "http://hooks.example.com:80"),
        ("https://hooks.example.com:8443", "https://hooks.example.com:8443"),
        ("https://hooks.example.com:8443", "https://hooks.example.com"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("https://hooks.example.com/posthouse/", "https://hooks.example.com/posthouse"),
    ],
)
def test_the_public_url_counts_with_and_without_its_port(base: str, signed: str) -> None:
    provider = TwilioProvider(TwilioConfig(account_sid=ACCOUNT, auth_token=TOKEN, webhook_base_url=base))
    request = form_request({"MessageSid": "SM1"}, url=f"{signed}/webhook/twilio/sms")
    assert provider.verify(replace(request, url="http://10.0.0.7:8000/webhook/twilio/sms"))


def shared_key_request(key: str, settings_header: str) -> WebhookRequest:
    fields = {"MessageSid": "SM1", "Body": "Hello"}
    signature = RequestValidator(key).compute_signature(WEBHOOK, Values(list(fields.items())), "HMAC_SHA256")
    headers = {"x-twilio-signature": signature, "x-twilio-webhooks-signature-settings": settings_header}
    return WebhookRequest("POST", WEBHOOK, headers, urlencode(fields).encode())


def test_a_shared_key_signs_with_sha_256_and_each_key_by_its_own_algorithm_only() -> None:
    assert PROVIDER.verify(shared_key_request(SHARED_KEY, "key=k1,algorithm=HMAC_SHA256"))
    assert not PROVIDER.verify(shared_key_request(TOKEN, "key=k1,algorithm=HMAC_SHA256"))
    assert not PROVIDER.verify(shared_key_request(SHARED_KEY, "key=k1"))
    assert not PROVIDER.verify(form_request({"MessageSid": "SM1"}, token=SHARED_KEY))
    unset = TwilioProvider(TwilioConfig(account_sid=ACCOUNT, auth_token=TOKEN, webhook_base_url=PUBLIC))
    assert not unset.verify(shared_key_request("", "key=k1,algorithm=HMAC_SHA256"))


def test_without_a_token_nothing_is_genuine() -> None:
    provider = TwilioProvider(TwilioConfig(account_sid=ACCOUNT, webhook_base_url=PUBLIC))
    assert not provider.verify(form_request({"MessageSid": "SM1"}, token=""))


def test_a_json_body_needs_its_digest_in_the_signed_url() -> None:
    body = b'{"MessageSid": "SM1"}'
    headers = {"content-type": "application/json"}
    unbound = RequestValidator(TOKEN).compute_signature(WEBHOOK, {})
    request = WebhookRequest("POST", WEBHOOK, headers, body)
    assert not PROVIDER.verify(with_signature(request, unbound))
    twice = f"{WEBHOOK}?bodySHA256={'0' * 64}&bodySHA256={hashlib.sha256(body).hexdigest()}"
    signature = RequestValidator(TOKEN).compute_signature(twice, {})
    assert not PROVIDER.verify(with_signature(replace(request, url=twice), signature))


def test_a_digest_in_the_url_binds_whatever_body_comes() -> None:
    request = json_request({"MessageSid": "SM1", "Body": "Hello"})
    form = {**request.headers, "content-type": "application/x-www-form-urlencoded"}
    assert not PROVIDER.verify(replace(request, headers=form, body=b""))
    assert not PROVIDER.verify(replace(request, headers=form, body=b"MessageSid=SM2&Body=Bye"))
