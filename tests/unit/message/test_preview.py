"""PreviewMessage without a ledger: what the rate limits say, and that a peek takes nothing."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from posthouse.v1 import message_service_pb2 as pb
from services.kit.rate_limit_clients import Client
from services.kit.rate_limits import RateLimiter
from services.kit.routes import parse_routes
from services.kit.sliding_window import MemoryWindows
from services.ledger.clock import LedgerClock
from services.message import preview as module
from services.message.preview import Previewer
from services.message.route_health import RouteHealth
from services.message.sender_pools import SenderPools
from services.message.submission_limits import SubmissionLimiter
from tests.unit.message.test_inbound import ANN, BOB

CLIENT = Client("ip:192.0.2.1", "192.0.2.1")


class NoLedger:
    """A ledger with nothing in it."""

    clock = LedgerClock()

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[None]:
        yield


@pytest.fixture(autouse=True)
def _empty(monkeypatch: pytest.MonkeyPatch) -> None:
    async def none(*_: Any) -> None:
        return None

    async def no(*_: Any) -> bool:
        return False

    for name, answer in (("_earlier", none), ("get_opt_out", none), ("_exists", no)):
        monkeypatch.setattr(module, name, answer)


def previewer(limits: SubmissionLimiter | None) -> Previewer:
    ledger: Any = NoLedger()
    routes = parse_routes("sms=a,b")
    return Previewer(
        ledger,
        routes=routes,
        health=RouteHealth(routes, cool_down=1.0),
        pools=SenderPools(ledger, {}, strict_phones=False),
        strict_phones=False,
        limiter=limits,
    )


def limits_of(requests: int) -> SubmissionLimiter:
    return SubmissionLimiter(
        RateLimiter(MemoryWindows(60), 60), requests=requests, sender_requests=requests, ip_requests=requests
    )


REQUEST = pb.SendMessageRequest(sender=ANN, recipient=BOB, body="hello")


async def test_no_verdict_without_limits() -> None:
    response = await previewer(None).preview(REQUEST, caller="", client=CLIENT)
    assert response.acceptable
    assert not response.HasField("rate_limit")
    assert list(response.route) == ["a", "b"]


async def test_a_look_takes_no_token() -> None:
    limits = limits_of(3)
    for _ in range(10):
        response = await previewer(limits).preview(REQUEST, caller="", client=CLIENT)
        assert response.acceptable
        assert (response.rate_limit.allowed, response.rate_limit.limit) == (True, 3)
        assert response.rate_limit.remaining == 3


async def test_what_is_used_up_is_a_refusal_beside_the_others() -> None:
    limits = limits_of(2)
    await limits.take(CLIENT, [ANN, ANN])
    request = pb.SendMessageRequest(sender=ANN, recipient=BOB)
    response = await previewer(limits).preview(request, caller="", client=CLIENT)
    assert not response.acceptable
    assert [refusal.reason for refusal in response.refusals] == ["INVALID_FIELD", "RATE_LIMITED"]
    assert response.refusals[1].code == 8
    assert response.refusals[1].message.startswith("the limit of 2 messages per 60 s ")
    assert 0 < response.refusals[1].retry_after_seconds <= 120
    assert (response.rate_limit.allowed, response.rate_limit.remaining) == (False, 0)
    assert response.rate_limit.reset_seconds > 0
    assert response.rate_limit.limit == 2
