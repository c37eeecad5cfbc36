"""Twilio's sending: the error table, the fields, what was never sent, connections and settings."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs

import pytest

from services.kit.config import Settings, load_settings
from services.kit.ids import new_id
from services.providers.base import (
    Accepted,
    NotBegun,
    OutboundMessage,
    Outcome,
    Rejected,
    Retryable,
    Unknown,
)
from services.providers.registry import build_providers, enabled_providers
from services.providers.twilio import TwilioProvider
from tests.servers import free_ports
from tests.unit.providers.contract.adapter import Behaviour
from tests.unit.providers.contract.fake_http import HttpAnswer
from tests.unit.providers.contract.patience import keep_silent
from tests.unit.providers.twilio_carrier import (
    ACCOUNT,
    OLD_BASIC_AUTH,
    SENDER,
    SERVICE,
    TOKEN,
    WEBHOOK,
    TwilioCarrier,
    failure,
    form_request,
)

pytestmark = OLD_BASIC_AUTH


@pytest.fixture
async def carrier() -> AsyncIterator[TwilioCarrier]:
    async with TwilioCarrier() as running:
        yield running


@pytest.fixture
async def provider(carrier: TwilioCarrier) -> AsyncIterator[TwilioProvider]:
    provider = TwilioProvider(carrier.config())
    await provider.start()
    yield provider
    await provider.close()


def message(number: int = 0, **changes: Any) -> OutboundMessage:
    values: dict[str, Any] = {
        "id": new_id(),
        "attempt": 1,
        "channel": "sms",
        "sender": SENDER,
        "recipient": f"+1555987{number:04d}",
        "body": "Hello",
    }
    return OutboundMessage(**(values | changes))


TOO_MANY = Retryable("20429", "why", 7.0)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (429, 20429, TOO_MANY),
        (503, 20429, TOO_MANY),
        (400, 30001, Retryable("30001", "why", 7.0)),
        (400, 30022, Retryable("30022", "why", 7.0)),
        (400, 21211, Rejected("21211", "why")),
        (400, 21408, Rejected("21408", "why")),
        (403, 21408, Rejected("21408", "why")),
        (400, 21606, Rejected("21606", "why")),
        (400, 21610, Rejected("21610", "why")),
        (400, 21614, Rejected("21614", "why")),
        (400, 21617, Rejected("21617", "why")),
        *((400, code, Rejected(str(code), "why")) for code in (30004, 30005, 30006, 30007, 30034)),
        (401, 20003, Rejected("20003", "why", provider_fault=True)),
        (400, 20003, Rejected("20003", "why", provider_fault=True)),
        (400, 30002, Rejected("30002", "why", provider_fault=True)),
        (403, 99999, Rejected("99999", "why", provider_fault=True)),
        (400, 99999, Rejected("99999", "why")),
        (404, 20404, Rejected("20404", "why")),
        (408, 99999, Unknown("99999", "why")),
        (500, 99999, Unknown("99999", "why")),
        (503, 20503, Unknown("20503", "why")),
    ],
)
async def test_a_code_decides_and_then_the_status(
    carrier: TwilioCarrier, provider: TwilioProvider, status: int, code: int, expected: Outcome
) -> None:
    carrier.answer_with(lambda _: failure(status, code, "why", {"Retry-After": "7"}))
    assert await provider.send([message()]) == [expected]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (HttpAnswer(429), Retryable("20429", "HTTP 429", None)),
        (HttpAnswer(401, b"<html>"), Rejected("http_401", "HTTP 401", provider_fault=True)),
        (HttpAnswer(302, b"", {"Location": "/x"}), Rejected("http_302", "HTTP 302", provider_fault=True)),
        (HttpAnswer(400, b"[]"), Rejected("http_400", "HTTP 400")),
        (
            HttpAnswer(400, b'{"code": "x", "message": "a\\u0000b\\nc"}'),
            Rejected("http_400", "a b c"),
        ),
        (HttpAnswer(502, b"<html>"), Unknown("http_502", "HTTP 502")),
        (HttpAnswer(200, b"{}"), Unknown("unreadable_answer", "HTTP 200 without a message SID")),
        (
            HttpAnswer(201, b'{"sid": 5}'),
            Unknown("unreadable_answer", "HTTP 201 without a message SID"),
        ),
        (failure(400, 30003, "later"), Retryable("30003", "later", 60.0)),
        (failure(400, 30008, "later"), Retryable("30008", "later", 60.0)),
    ],
)
async def test_answers_that_are_not_as_documented(
    carrier: TwilioCarrier, provider: TwilioProvider, answer: HttpAnswer, expected: Outcome
) -> None:
    carrier.answer_with(lambda _: answer)
    assert await provider.send([message()]) == [expected]
    assert len(carrier.requests) == 1, "redirects are not followed, nothing is repeated"


async def test_outcomes_come_in_the_order_of_the_messages(
    carrier: TwilioCarrier, provider: TwilioProvider
) -> None:
    accept = carrier.answers[Behaviour.ACCEPT]
    carrier.answer_with(
        lambda request: failure(400, 21211, "no") if b"5559870003" in request.body else accept(request)
    )
    messages = [message(number, body=f"Number {number}") for number in range(6)]
    outcomes = await provider.send(messages)
    sids = {record["body"]: record["sid"] for record in carrier.records}
    assert outcomes == [
        Rejected("21211", "no") if number == 3 else Accepted(sids[f"Number {number}"]) for number in range(6)
    ]


async def test_an_mms_carries_its_media_by_url(carrier: TwilioCarrier, provider: TwilioProvider) -> None:
    media = [{"url": f"https://cdn.example.com/{n}?a=b&c", "content_type": "image/png"} for n in range(2)]
    outcomes = await provider.send([message(channel="mms", body="", attachments=media)])
    assert isinstance(outcomes[0], Accepted)
    fields = parse_qs(carrier.requests[0].body.decode(), keep_blank_values=True)
    assert fields["MediaUrl"] == [item["url"] for item in media]
    assert "Body" not in fields
    assert "MessagingServiceSid" not in fields


async def test_media_without_a_url_never_leave(carrier: TwilioCarrier, provider: TwilioProvider) -> None:
    attachments = [{"content": "AAAA", "content_type": "image/png", "filename": "a.png"}]
    (outcome,) = await provider.send([message(channel="mms", attachments=attachments)])
    assert isinstance(outcome, Rejected)
    assert outcome.error_code == "media_without_url"
    assert not carrier.requests


@pytest.mark.parametrize("base", ["http://127.0.0.1:8000", "http://localhost:8000", "http://[::1]:8000"])
async def test_twilio_is_not_told_to_report_to_a_loopback_address(carrier: TwilioCarrier, base: str) -> None:
    provider = TwilioProvider(carrier.config(webhook_base_url=base))
    assert "StatusCallback" not in provider.create_fields(message())


async def test_an_api_key_signs_in_place_of_the_token(carrier: TwilioCarrier) -> None:
    provider = TwilioProvider(carrier.config(api_key="SK1", api_secret="secret"))
    await provider.start()
    assert isinstance((await provider.send([message()]))[0], Accepted)
    await provider.close()
    assert carrier.requests[0].headers["authorization"] == "Basic U0sxOnNlY3JldA=="
    assert f"/Accounts/{ACCOUNT}/" in carrier.requests[0].target


async def test_connections_are_used_again_and_bounded(carrier: TwilioCarrier) -> None:
    provider = TwilioProvider(carrier.config(concurrency=3))
    await provider.start()
    for _ in range(3):
        outcomes = await provider.send([message(number) for number in range(20)])
        assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    await provider.close()
    assert len(carrier.requests) == 60
    assert carrier.connection_count <= 3


async def test_what_finds_no_free_connection_was_surely_not_sent(carrier: TwilioCarrier) -> None:
    provider = TwilioProvider(carrier.config(concurrency=1))
    await provider.start()
    await carrier.play(Behaviour.HANG)
    outcomes = await provider.send([message(number) for number in range(4)])
    await provider.close()
    assert isinstance(outcomes[0], Unknown)
    assert NotBegun("no request could be made in time") in outcomes
    unknown = [outcome for outcome in outcomes if isinstance(outcome, Unknown)]
    assert len(unknown) == len(carrier.requests)


async def test_batches_follow_the_share_of_the_requests(carrier: TwilioCarrier) -> None:
    provider = TwilioProvider(carrier.config(concurrency=40))

    def share(among: int) -> int:
        provider.shared_by(lambda: among)
        return provider.batch_share

    assert [share(dispatchers) for dispatchers in (1, 4, 8, 100)] == [40, 10, 5, 1]


async def test_a_host_that_does_not_answer_the_connection_was_sent_nothing(carrier: TwilioCarrier) -> None:
    # TLS against a server that never says a word: the connection is never made.
    async def listen(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await keep_silent()  # a writer that nobody holds would be closed

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    provider = TwilioProvider(carrier.config(base_url=f"https://127.0.0.1:{port}"))
    await provider.start()
    assert await provider.send([message()]) == [Retryable("timeout", "TimeoutError")]
    await provider.close()
    server.close()


async def test_a_provider_that_is_not_started_sends_nothing(carrier: TwilioCarrier) -> None:
    (outcome,) = await TwilioProvider(carrier.config()).send([message()])
    assert isinstance(outcome, Retryable)
    assert not carrier.requests


def settings(**values: object) -> Settings:
    return Settings.model_validate({"simulator_secret": "s"} | values)


def test_it_is_made_from_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "TWILIO_ACCOUNT_SID": ACCOUNT,
        "TWILIO_AUTH_TOKEN": TOKEN,
        "TWILIO_MESSAGING_SERVICE_SID": SERVICE,
        "POSTHOUSE_ROUTES": "sms=twilio,simulator email=simulator",
        "POSTHOUSE_WEBHOOK_BASE_URL": "https://hooks.example.com/",
        "POSTHOUSE_TWILIO_BASE_URL": "https://api.dublin.ie1.twilio.com",
        "POSTHOUSE_TWILIO_CONCURRENCY": "7",
        "POSTHOUSE_SIMULATOR_SECRET": "s",
    }.items():
        monkeypatch.setenv(name, value)
    given = load_settings()
    assert TOKEN not in repr(given)
    provider = build_providers(given, enabled_providers(given))["twilio"]
    assert isinstance(provider, TwilioProvider)
    assert provider.batch_size == 7
    assert provider.create_fields(message())["StatusCallback"].startswith(f"{WEBHOOK}?message_id=")
    assert provider.verify(form_request({"MessageSid": "SM1"}))
    assert not provider.verify(form_request({"MessageSid": "SM1"}, token="another"))


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"TWILIO_AUTH_TOKEN": TOKEN}, "TWILIO_ACCOUNT_SID"),
        ({"TWILIO_ACCOUNT_SID": ACCOUNT}, "TWILIO_AUTH_TOKEN"),
        ({"TWILIO_ACCOUNT_SID": ACCOUNT, "TWILIO_API_KEY": "SK1"}, "TWILIO_AUTH_TOKEN"),
        (
            {"TWILIO_ACCOUNT_SID": ACCOUNT, "TWILIO_AUTH_TOKEN": TOKEN, "webhook_base_url": "hooks"},
            "POSTHOUSE_WEBHOOK_BASE_URL",
        ),
    ],
)
def test_a_route_without_credentials_stops_the_start(values: dict[str, str], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: ") as raised:
        build_providers(settings(routes="sms=twilio", **values), ["twilio"])
    assert TOKEN not in str(raised.value)


@pytest.mark.parametrize(
    ("values", "enabled"),
    [
        ({}, ["simulator"]),
        ({"TWILIO_ACCOUNT_SID": ACCOUNT, "TWILIO_PHONE_NUMBER": SENDER}, ["simulator"]),
        ({"TWILIO_AUTH_TOKEN": TOKEN}, ["simulator", "twilio"]),
    ],
)
def test_credentials_enable_webhooks_and_move_no_traffic(values: dict[str, str], enabled: list[str]) -> None:
    given = settings(**values)
    assert [name for name in enabled_providers(given) if name in ("simulator", "twilio")] == enabled
    assert given.routing["sms"] == ["simulator"]
    assert set(build_providers(given, enabled_providers(given))) >= set(enabled)


async def test_the_environment_does_not_redirect_requests(
    carrier: TwilioCarrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWILIO_EDGE", "dublin")
    monkeypatch.setenv("TWILIO_REGION", "ie1")
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_ports(1)}")
    provider = TwilioProvider(carrier.config())
    await provider.start()
    assert isinstance((await provider.send([message()]))[0], Accepted)
    await provider.close()
