"""Asking Twilio what became of a message, when none of its records carries our id."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest

from services.providers.base import Absent, CannotTell, Found, OutboundMessage
from services.providers.twilio import TwilioProvider
from tests.unit.providers.contract.adapter import Behaviour
from tests.unit.providers.contract.fake_http import HttpAnswer
from tests.unit.providers.test_twilio import message
from tests.unit.providers.twilio_carrier import ACCOUNT, OLD_BASIC_AUTH, TwilioCarrier

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


def attempted(number: int = 0, *, body: str = "Hello", ago: float = 120.0) -> OutboundMessage:
    """Return a message whose attempt was so many seconds ago."""
    return message(number, body=body, attempt_time=datetime.now(UTC) - timedelta(seconds=ago))


def record(carrier: TwilioCarrier, sent: OutboundMessage, *, after: float = 1.0, **changes: str) -> str:
    """Put into Twilio's list what an attempt left there, so many seconds after it began."""
    assert sent.attempt_time is not None
    fields = {"To": sent.recipient, "From": sent.sender, "Body": sent.body} | changes
    return carrier.record(fields, created=sent.attempt_time + timedelta(seconds=after))


async def test_it_asks_for_sender_and_recipient_and_finds_the_body(
    carrier: TwilioCarrier, provider: TwilioProvider
) -> None:
    sent = attempted(1, body="¿Qué?")
    record(carrier, attempted(2))
    sid = record(carrier, sent)
    assert await provider.lookup([sent]) == [Found(sid)]
    (request,) = carrier.requests
    assert (request.method, urlsplit(request.target).path) == (
        "GET",
        f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json",
    )
    assert parse_qs(urlsplit(request.target).query) == {
        "To": [sent.recipient],
        "From": [sent.sender],
        "PageSize": ["100"],
    }


async def test_an_empty_list_proves_absence(provider: TwilioProvider) -> None:
    assert await provider.lookup([attempted()]) == [Absent()]


@pytest.mark.parametrize("after", [-60.0, 2000.0])
async def test_other_times_are_other_messages(
    carrier: TwilioCarrier, provider: TwilioProvider, after: float
) -> None:
    sent = attempted()
    record(carrier, sent, after=after)
    assert await provider.lookup([sent]) == [Absent()]


async def test_a_message_from_the_contact_is_not_ours(
    carrier: TwilioCarrier, provider: TwilioProvider
) -> None:
    sent = attempted()
    record(carrier, sent, Direction="inbound")
    assert await provider.lookup([sent]) == [Absent()]


async def test_another_body_proves_nothing(carrier: TwilioCarrier, provider: TwilioProvider) -> None:
    sent = attempted()
    record(carrier, sent, Body="Sent from your Twilio trial account - Hello")
    assert await provider.lookup([sent]) == [CannotTell()]


async def test_of_two_that_read_alike_nobody_can_tell(
    carrier: TwilioCarrier, provider: TwilioProvider
) -> None:
    sent = attempted()
    record(carrier, sent)
    twin = replace(attempted(), id=message().id)
    assert await provider.lookup([sent, twin]) == [CannotTell(), CannotTell()]
    record(carrier, sent, after=2.0)
    assert await provider.lookup([sent]) == [CannotTell()]


async def test_an_answered_twin_is_not_taken_for_the_lost_one(provider: TwilioProvider) -> None:
    first, lost = attempted(ago=1.0), attempted(ago=0.0)
    (outcome,) = await provider.send([first])
    assert await provider.lookup([lost]) == [Absent()]
    assert await provider.lookup([first]) == [Found(outcome.provider_message_id)]  # type: ignore[union-attr]


async def test_without_the_attempts_time_the_ids_time_bounds_the_search(
    carrier: TwilioCarrier, provider: TwilioProvider
) -> None:
    sent = message()
    fields = {"To": sent.recipient, "From": sent.sender, "Body": sent.body}
    carrier.record(fields, created=datetime.now(UTC) - timedelta(hours=1))
    assert await provider.lookup([sent]) == [Absent()]
    sid = carrier.record(fields)
    assert await provider.lookup([sent, message(id="not-a-uuid", recipient="+15550000001")]) == [
        Found(sid),
        CannotTell(),
    ]


async def test_an_id_that_tells_no_time_bounds_nothing(provider: TwilioProvider) -> None:
    assert await provider.lookup([message(id="6f1c1f0e-3b1a-4c3e-9a7d-2f0b8e5d4c3b")]) == [CannotTell()]


async def test_pages_are_followed_until_the_time_is_passed(
    carrier: TwilioCarrier, provider: TwilioProvider
) -> None:
    carrier.page_size = 2
    sent = attempted()
    record(carrier, sent, after=-3600.0)
    sid = record(carrier, sent)
    for after in (2000.0, 2001.0, 2002.0):
        record(carrier, sent, after=after)
    assert await provider.lookup([sent]) == [Found(sid)]
    assert len(carrier.requests) == 3


async def test_more_pages_than_it_reads_prove_nothing(
    carrier: TwilioCarrier, provider: TwilioProvider
) -> None:
    carrier.page_size = 1
    sent = attempted()
    for after in range(2000, 2006):
        record(carrier, sent, after=float(after))
    assert await provider.lookup([sent]) == [CannotTell()]
    assert len(carrier.requests) == 5


@pytest.mark.parametrize(
    "answer",
    [
        HttpAnswer(200, b"[]"),
        HttpAnswer(200, b'{"messages": {}}'),
        HttpAnswer(200, b'{"messages": [1]}'),
        HttpAnswer(200, b'{"messages": [{"sid": "SM1"}]}'),
        HttpAnswer(200, b'{"messages": [{"sid": "SM1", "date_created": "yesterday"}]}'),
        HttpAnswer(200, orjson.dumps({"messages": [], "next_page_uri": "@elsewhere.example/x"})),
        HttpAnswer(204),
        HttpAnswer(503, b'{"messages": []}'),
        HttpAnswer(404, b'{"code": 20404}'),
    ],
)
async def test_what_cannot_be_understood_proves_nothing(
    carrier: TwilioCarrier, provider: TwilioProvider, answer: HttpAnswer
) -> None:
    carrier.answer_with(lambda _: answer)
    assert await provider.lookup([attempted()]) == [CannotTell()]
    assert len(carrier.requests) == 1


async def test_a_second_page_that_never_comes_proves_nothing(
    carrier: TwilioCarrier, provider: TwilioProvider
) -> None:
    carrier.page_size = 1
    sent = attempted()
    record(carrier, sent, after=100.0)
    record(carrier, sent, after=101.0)
    first = carrier.answers[Behaviour.ACCEPT]
    carrier.answer_with(lambda request: HttpAnswer(500) if "Page=1" in request.target else first(request))
    assert await provider.lookup([sent]) == [CannotTell()]
