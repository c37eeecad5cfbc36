"""What is kept of a provider's request: no secrets, and of forged ones no more than is bounded."""

import hashlib

import orjson
import pytest
from prometheus_client import REGISTRY

from services.message.forgeries import Forgeries
from services.message.webhook_logging import MAX_FORGED_BYTES, log_entry
from services.providers.base import WebhookRequest
from tests.clock import Clock


@pytest.mark.parametrize("name", ["token", "TOKEN", "%74oken", "%54%4fken"])
def test_the_secret_of_a_url_is_not_kept_however_it_is_written(name: str) -> None:
    url = f"https://example.com/api/v1/webhooks/sendgrid?a=b%20c&{name}=s3cret=1&d"
    request = WebhookRequest("POST", url, {"x-original-uri": url, "accept": "*/*?"}, b"")
    entry = log_entry("0" * 36, "sendgrid", request, remote_address="", verdict="accepted")
    kept = f"https://example.com/api/v1/webhooks/sendgrid?a=b%20c&{name}=***&d"
    assert entry.url == kept
    assert orjson.loads(entry.headers) == {"x-original-uri": kept, "accept": "*/*?"}


_URL = "https://example.com/webhook/twilio/sms"
_HEADERS = {"content-type": "application/x-www-form-urlencoded", "x-twilio-signature": "s"}


@pytest.mark.parametrize("verdict", ["accepted", "unverified", "malformed"])
def test_what_is_genuine_is_kept_whole(verdict: str) -> None:
    request = WebhookRequest("POST", _URL + "?" + "q" * 9000, {"x-large": "h" * 60_000}, b"b" * 1_000_000)
    entry = log_entry("0" * 36, "twilio", request, remote_address="", verdict=verdict)
    assert (entry.url, entry.body, entry.body_size) == (request.url, request.body, None)
    assert orjson.loads(entry.headers) == request.headers


def test_a_small_forged_one_is_kept_whole() -> None:
    body = b"b" * MAX_FORGED_BYTES
    request = WebhookRequest("POST", _URL, _HEADERS, body)
    entry = log_entry("0" * 36, "twilio", request, remote_address="", verdict="forged")
    assert (entry.url, entry.body, entry.body_size, entry.detail) == (_URL, body, None, None)
    assert orjson.loads(entry.headers) == _HEADERS


@pytest.mark.parametrize(
    "request_",
    [
        WebhookRequest("POST", _URL, _HEADERS, b"b" * (MAX_FORGED_BYTES + 1)),
        WebhookRequest("POST", _URL + "?" + "q" * 9000, _HEADERS, b"b"),
        WebhookRequest(
            "POST", _URL, {**_HEADERS, "x-large": "\N{PILE OF POO}" * 60_000, "x-last": "1"}, b"b"
        ),
        WebhookRequest("POST", _URL, {f"x-{number}": "h" * 500 for number in range(100)}, b"b"),
    ],
)
def test_of_a_large_forged_one_little_is_kept_and_the_digest(request_: WebhookRequest) -> None:
    entry = log_entry("0" * 36, "twilio", request_, remote_address="", verdict="forged")
    assert len(entry.url) + len(entry.headers.encode()) + len(entry.body) < 30_000
    assert entry.body_size == len(request_.body)
    assert hashlib.sha256(request_.body).hexdigest() in (entry.detail or "")
    assert orjson.loads(entry.headers).items() <= request_.headers.items()


async def test_of_forged_ones_so_many_bytes_are_kept_in_an_hour() -> None:
    clock = Clock()
    forgeries = Forgeries(10_000, clock=clock)

    async def kept(provider: str, body: bytes, times: int = 1) -> int:
        request = WebhookRequest("POST", _URL, _HEADERS, body)
        entry = log_entry("0" * 36, provider, request, remote_address="", verdict="forged")
        return sum([await forgeries.admit(entry) for _ in range(times)])

    def dropped() -> float:
        return REGISTRY.get_sample_value("webhooks_not_kept_total", {"provider": "twilio"}) or 0.0

    before = dropped()
    assert await kept("twilio", b"b" * 9000) == 1
    # Too much for what is left, which is there for smaller ones.
    assert await kept("twilio", b"b" * 2000) == 0
    many = await kept("twilio", b"", 100)
    assert 0 < many < 4
    assert dropped() - before == 1 + 100 - many
    assert await kept("simulator", b"b" * 9000) == 1
    clock.now += 7200
    assert await kept("twilio", b"b" * 9000) == 1
    assert (
        await Forgeries(0).admit(
            log_entry(
                "0" * 36, "twilio", WebhookRequest("GET", "", {}, b""), remote_address="", verdict="forged"
            )
        )
        is False
    )
