"""SendGrid keeps the contract, and its requests and answers are read to the letter."""

import base64
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import ClassVar, Self

import orjson
import pytest

from services.kit.config import Settings, WrongSettingError
from services.kit.ids import new_id
from services.providers.base import (
    Accepted,
    OutboundMessage,
    Outcome,
    Receipt,
    Rejected,
    Retryable,
    Unknown,
    WebhookContent,
    WebhookRequest,
)
from services.providers.registry import build_providers, enabled_providers
from services.providers.sendgrid import SendGridConfig, SendGridProvider
from tests.unit.providers.contract.adapter import (
    Behaviour,
    ProviderAdapter,
    WebhookSample,
    WebhookSamples,
    text_message,
)
from tests.unit.providers.contract.fake_http import FakeHttpCarrier, HttpAnswer, HttpRequest
from tests.unit.providers.contract.patience import TIMEOUT
from tests.unit.providers.contract.suite import ProviderContract
from tests.unit.providers.sendgrid_requests import (
    SIGNATURE,
    STRANGER,
    TIMESTAMP,
    event,
    events,
    form,
    mail,
    public_key,
    signed,
)

API_KEY = "SG.key-of-the-tests"
ERRORS = b'{"errors":[{"message":"Does not contain a valid address.","field":"personalizations.0.to"}]}'


def accept(request: HttpRequest) -> HttpAnswer:
    sent = orjson.loads(request.body)["personalizations"][0]["custom_args"]["message_id"]
    return HttpAnswer(202, headers={"X-Message-Id": f"sg-{sent}"})


def accept_with_body(request: HttpRequest) -> HttpAnswer:
    return replace(accept(request), body=b"Accepted")


ANSWERS: dict[Behaviour, Callable[[HttpRequest], HttpAnswer]] = {
    Behaviour.ACCEPT: accept,
    Behaviour.RATE_LIMIT: lambda _: HttpAnswer(429, b'{"errors":[]}', {"Retry-After": "7"}),
    Behaviour.SERVER_ERROR: lambda _: HttpAnswer(503, b"<html>busy</html>"),
    Behaviour.REJECT: lambda _: HttpAnswer(400, ERRORS, {"Content-Type": "application/json"}),
    Behaviour.GARBAGE: lambda _: HttpAnswer(202, b"<html>Welcome to the hotel</html>"),
}


class SendGridWebhooks(WebhookSamples):
    signature_headers = (SIGNATURE, TIMESTAMP)

    def __init__(self) -> None:
        self.genuine = [
            sample("delivered", "delivered", detail="delivered: 250 OK", response="250 OK"),
            sample("bounce", "undelivered", detail="bounce: unknown", error_code="5.1.1",
                   reason="unknown", status="5.1.1"),
            sample("open", "", detail="open"),
        ]  # fmt: skip
        self.malformed = {
            "not JSON": signed(b"{"),
            "not a JSON array": signed(b'{"event": "delivered"}'),
        }

    def redelivered(self, request: WebhookRequest) -> WebhookRequest:
        (news,) = orjson.loads(request.body)
        return signed(events(news | {"sg_event_id": "another"}), age=-5)

    def signed_by_a_stranger(self, request: WebhookRequest) -> WebhookRequest:
        return signed(request.body, key=STRANGER)


def sample(kind: str, state: str, *, detail: str, error_code: str = "", **fields: str) -> WebhookSample:
    """Return an event of sendgrid_requests with what it says, its key by the recipe written out once more."""
    identity = [event(kind)["sg_message_id"], kind, "ann@example.com", "1767323045", ""]
    receipt = Receipt(
        event_key=hashlib.blake2b(orjson.dumps(identity), digest_size=20).hexdigest(),
        state=state,
        message_id="0199aaaa-0000-7000-8000-000000000001",
        provider_message_id="14c5d75ce93.dfd.64b469",
        attempt=2,
        provider_time=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        error_code=error_code,
        detail=detail,
    )
    return WebhookSample(signed(events(event(kind, **fields))), WebhookContent(receipts=[receipt]))


class SendGridAdapter(ProviderAdapter):
    channel = "email"
    secrets = (API_KEY, "inbound-token-of-the-tests")
    retry_after = 7.0
    differing: ClassVar = {
        # The acceptance and its id are in the headers; the body that never ends is of no interest.
        Behaviour.SLOW_BODY: Accepted,
    }

    def __init__(self) -> None:
        self.fake = FakeHttpCarrier(ANSWERS)
        self.webhooks = SendGridWebhooks()

    async def __aenter__(self) -> Self:
        await self.fake.__aenter__()
        self.provider = SendGridProvider(
            SendGridConfig(
                API_KEY,
                base_url=f"{self.fake.url}/",
                public_key=public_key(),
                inbound_token="inbound-token-of-the-tests",
                timeout=TIMEOUT,
            )
        )
        await self.provider.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.provider.close()
        await self.fake.__aexit__()

    def message(self, number: int) -> OutboundMessage:
        return text_message(
            number, channel="email", sender="desk@posthouse.example", recipient="ann@example.com"
        )

    async def play(self, behaviour: Behaviour) -> None:
        slow = behaviour is Behaviour.SLOW_BODY
        self.fake.answers[Behaviour.ACCEPT] = accept_with_body if slow else accept
        await self.fake.play(behaviour)

    def requests(self) -> Sequence[object]:
        return [
            (request.method, request.target, request.headers["authorization"],
             request.headers["content-type"], request.body)
            for request in self.fake.requests
        ]  # fmt: skip

    def expected_request(self, message: OutboundMessage) -> object:
        body = (
            '{"personalizations":[{"to":[{"email":"ann@example.com"}],"custom_args":'
            f'{{"message_id":"{message.id}","message_attempt":"1"}}}}],'
            '"from":{"email":"desk@posthouse.example"},"subject":"(no subject)",'
            f'"content":[{{"type":"text/plain","value":"{message.body}"}}],'
            f'"headers":{{"Message-ID":"<{message.id}@posthouse.example>",'
            f'"References":"<{message.id}@posthouse.example>"}}}}'
        )
        return ("POST", "/v3/mail/send", f"Bearer {API_KEY}", "application/json", body.encode())

    def accepted_id(self, message: OutboundMessage) -> str:
        return f"sg-{message.id}"


class TestSendGridContract(ProviderContract):
    @pytest.fixture
    async def adapter(self) -> AsyncIterator[ProviderAdapter]:
        async with SendGridAdapter() as adapter:
            yield adapter


@pytest.fixture
async def sendgrid() -> AsyncIterator[SendGridAdapter]:
    async with SendGridAdapter() as adapter:
        yield adapter


def email(**more: object) -> OutboundMessage:
    message = OutboundMessage(
        id=new_id(), attempt=3, channel="email", sender="desk@posthouse.example",
        recipient="ann@example.com", body="Hello", subject="Rent",
    )  # fmt: skip
    return replace(message, **more)  # type: ignore[arg-type]


async def sent(adapter: SendGridAdapter, message: OutboundMessage) -> dict[str, object]:
    (outcome,) = await adapter.provider.send([message])
    assert isinstance(outcome, Accepted), outcome
    parsed: dict[str, object] = orjson.loads(adapter.fake.requests[-1].body)
    return parsed


async def test_text_comes_before_html_and_both_are_kept_byte_for_byte(sendgrid: SendGridAdapter) -> None:
    html = "<p>\r\n <b>É</b>\t&nbsp;\u00a0=3D 🐎\r</p>\n"
    mail = await sent(sendgrid, email(html=html, body=" a\r\n\r\nb "))
    assert mail["content"] == [
        {"type": "text/plain", "value": " a\r\n\r\nb "},
        {"type": "text/html", "value": html},
    ]
    assert mail["subject"] == "Rent"
    assert (await sent(sendgrid, email(html=html, body="")))["content"] == [
        {"type": "text/html", "value": html}
    ]


async def test_attachments_travel_by_content(sendgrid: SendGridAdapter) -> None:
    content = base64.b64encode(b"\x00\xff").decode()
    mail = await sent(
        sendgrid,
        email(
            body="",
            attachments=[
                {
                    "content": content,
                    "content_type": "text/calendar; method=REQUEST",
                    "filename": "Ä\r\nb.ics",
                },
                {"content": content, "content_type": "", "filename": ""},
            ],
        ),
    )
    assert mail["content"] == [{"type": "text/plain", "value": " "}]
    assert mail["attachments"] == [
        {"content": content, "type": "text/calendar", "filename": "Ä b.ics", "disposition": "attachment"},
        {"content": content, "type": "application/octet-stream", "filename": "attachment",
         "disposition": "attachment"},
    ]  # fmt: skip


async def test_attachments_by_url_become_links(sendgrid: SendGridAdapter) -> None:
    files = [
        {"url": "https://files.example.com/a?b=1&c=2", "filename": "<Lease>.pdf", "content_type": "a/b"},
        {"url": "https://files.example.com/z", "filename": "", "content_type": ""},
    ]
    mail = await sent(sendgrid, email(html="<p>Hi</p>", attachments=files))
    assert "attachments" not in mail
    assert mail["content"] == [
        {
            "type": "text/plain",
            "value": "Hello\n\n<Lease>.pdf: https://files.example.com/a?b=1&c=2\nhttps://files.example.com/z",
        },
        {
            "type": "text/html",
            "value": '<p>Hi</p>\n<p><a href="https://files.example.com/a?b=1&amp;c=2">&lt;Lease&gt;.pdf</a><br>'
            '<a href="https://files.example.com/z">https://files.example.com/z</a></p>',
        },
    ]


def limited(reset: str) -> HttpAnswer:
    return HttpAnswer(429, headers={"X-RateLimit-Reset": reset})


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (HttpAnswer(202, headers={"X-Message-Id": "abc"}), Accepted("abc")),
        (HttpAnswer(202), Unknown("unreadable_answer", "HTTP 202 without X-Message-Id")),
        (HttpAnswer(400, ERRORS),
         Rejected("http_400", "personalizations.0.to: Does not contain a valid address.")),
        (HttpAnswer(413, b"{"), Rejected("http_413", "HTTP 413")),
        (HttpAnswer(422, b'{"errors": 5}'), Rejected("http_422", "HTTP 422")),
        (HttpAnswer(401, b'{"errors":[{"message":"authorization required","field":null}]}'),
         Rejected("http_401", "authorization required", provider_fault=True)),
        (HttpAnswer(403, b"[]"), Rejected("http_403", "HTTP 403", provider_fault=True)),
        (HttpAnswer(404, b'{"errors":["x"]}'), Rejected("http_404", "HTTP 404", provider_fault=True)),
        (HttpAnswer(302, headers={"Location": "/elsewhere"}),
         Rejected("http_302", "HTTP 302", provider_fault=True)),
        (HttpAnswer(500, b"\xff"), Unknown("http_500", "HTTP 500")),
        (HttpAnswer(504), Unknown("http_504", "HTTP 504")),
        (HttpAnswer(408), Unknown("http_408", "HTTP 408")),
        (HttpAnswer(429), Retryable("http_429", "HTTP 429", None)),
        (HttpAnswer(429, headers={"Retry-After": "12", "X-RateLimit-Reset": "99"}),
         Retryable("http_429", "HTTP 429", 12.0)),
        (limited("30"), Retryable("http_429", "HTTP 429", 30.0)),
        (limited("1000000000"), Retryable("http_429", "HTTP 429", 0.0)),
        (limited("soon"), Retryable("http_429", "HTTP 429", None)),
        (limited("9" * 400), Retryable("http_429", "HTTP 429", 3600.0)),
    ],
)  # fmt: skip
async def test_an_answer_means(sendgrid: SendGridAdapter, answer: HttpAnswer, expected: Outcome) -> None:
    sendgrid.fake.answers[Behaviour.ACCEPT] = lambda _: answer
    assert await sendgrid.provider.send([email()]) == [expected]
    assert len(sendgrid.fake.requests) == 1


async def test_the_reset_of_the_rate_limit_is_a_time(sendgrid: SendGridAdapter) -> None:
    before = time.time()
    reset = int(before) + 600
    sendgrid.fake.answers[Behaviour.ACCEPT] = lambda _: limited(str(reset))
    (outcome,) = await sendgrid.provider.send([email()])
    assert isinstance(outcome, Retryable)
    assert outcome.retry_after is not None
    # Counted from some moment of the call.
    assert reset - time.time() <= outcome.retry_after <= reset - before


async def test_what_cannot_be_sent_never_goes_out(sendgrid: SendGridAdapter) -> None:
    outcomes = await sendgrid.provider.send(
        [
            email(recipient="ann@example.com\r\nBcc: eve@example.com"),
            email(id="0199>\r\nX: y"),
            email(attachments=[{"content": "not base64!", "filename": "a"}]),
            email(),
        ]
    )
    assert [getattr(outcome, "error_code", "") for outcome in outcomes] == [
        "invalid_address", "invalid_id", "invalid_attachment", "",
    ]  # fmt: skip
    assert len(sendgrid.fake.requests) == 1


async def test_waiting_for_a_connection_in_vain_is_safe_to_repeat(
    sendgrid: SendGridAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.providers.sendgrid._MAX_CONNECTIONS", 1)
    await sendgrid.provider.close()
    await sendgrid.provider.start()
    await sendgrid.play(Behaviour.HANG)
    first, second = await sendgrid.provider.send([email(), email(recipient="bob@example.org")])
    assert isinstance(first, Unknown)
    assert isinstance(second, Retryable)
    assert len(sendgrid.fake.requests) == 1


async def test_connections_are_used_again(sendgrid: SendGridAdapter) -> None:
    for _ in range(3):
        await sendgrid.provider.send([email()])
    assert sendgrid.fake.connection_count == 1


async def test_without_start_nothing_is_sent() -> None:
    with pytest.raises(RuntimeError, match="not been started"):
        await SendGridProvider(SendGridConfig(API_KEY)).send([email()])


async def test_one_route_serves_events_and_inbound(sendgrid: SendGridAdapter) -> None:
    request = form(mail(), url="https://hooks.example.com/x?token=inbound-token-of-the-tests")
    assert sendgrid.provider.verify(request)
    assert len(sendgrid.provider.parse(request).inbound) == 1
    genuine = signed(events(event("open")))
    assert sendgrid.provider.verify(genuine)
    assert len(sendgrid.provider.parse(genuine).receipts) == 1


def settings(**values: object) -> Settings:
    return Settings.model_validate({"routes": "email=sendgrid"} | values)


def test_it_is_made_from_settings() -> None:
    made = settings(
        SENDGRID_API_KEY=f" {API_KEY}\n",
        SENDGRID_WEBHOOK_PUBLIC_KEY=public_key(),
        sendgrid_inbound_token="inbound",
        sendgrid_base_url="https://api.eu.sendgrid.com",
    )
    provider = build_providers(made, ["sendgrid"])["sendgrid"]
    assert isinstance(provider, SendGridProvider)
    assert provider._config == SendGridConfig(API_KEY, "https://api.eu.sendgrid.com", public_key(), "inbound")
    assert API_KEY not in repr(made) + repr(vars(provider))
    assert "inbound'" not in repr(provider._config)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "SENDGRID_API_KEY: must be set when POSTHOUSE_ROUTES uses sendgrid"),
        ({"SENDGRID_API_KEY": " "}, "SENDGRID_API_KEY: must be set"),
        ({"SENDGRID_API_KEY": "a\r\nb"}, "SENDGRID_API_KEY: has characters"),
        (
            {"SENDGRID_API_KEY": "a", "SENDGRID_WEBHOOK_PUBLIC_KEY": "x"},
            "SENDGRID_WEBHOOK_PUBLIC_KEY: is not",
        ),
    ],
)
def test_a_wrong_setting_is_named(values: dict[str, str], text: str) -> None:
    with pytest.raises(WrongSettingError, match=text):
        build_providers(settings(**values), ["sendgrid"])


def test_a_webhook_needs_no_api_key_and_no_route() -> None:
    made = settings(routes="email=simulator", sendgrid_inbound_token="t")
    assert enabled_providers(made) == ["simulator", "sendgrid"]
    assert isinstance(build_providers(made, ["sendgrid"])["sendgrid"], SendGridProvider)
    assert enabled_providers(settings(routes="email=simulator")) == ["simulator"]
