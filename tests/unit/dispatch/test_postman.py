"""What becomes of messages that no provider can be given now."""

from datetime import UTC, datetime
from typing import Any

from services.dispatch.admission import Gate
from services.dispatch.breakers import Breakers
from services.dispatch.governor import Governor
from services.dispatch.retry import RetryPolicy
from services.dispatch.routing import Router
from services.dispatch.sending import Postman
from services.kit.breaker import BreakerPolicy
from services.kit.routes import parse_routes
from tests.unit.kit.test_breaker import Time

from .samples import claimed

_ROUTING = {"sms": ["first"]}


class _Quick:
    inquiry_delay = 1.0


def _postman(*, failures: int = 0) -> Postman:
    providers: Any = {"first": _Quick()}
    breakers = Breakers(_ROUTING, BreakerPolicy(consecutive_failures=1, cool_down=600.0), clock=Time())
    gate = Gate(_ROUTING, breakers, Governor({}, {}, clock=Time()), {})
    if failures:
        gate.record("first", "sms", successes=0, failures=failures)
    router = Router(parse_routes("sms=first"), providers)
    policy = RetryPolicy(max_attempts=3, base=1.0, longest=60.0)
    return Postman(router, providers, policy, gate, clock=lambda: datetime.now(UTC))


def test_what_has_a_route_is_put_off_without_an_attempt() -> None:
    (settlement,) = _postman().withhold([claimed()])
    assert (settlement.state, settlement.outcome, settlement.dead_reason) == ("pending", None, None)
    assert settlement.error_code == "held_back"
    assert settlement.delay is not None
    assert 1.0 <= settlement.delay <= 5.0


def test_an_open_breaker_is_waited_for() -> None:
    (settlement,) = _postman(failures=1).withhold([claimed()])
    assert settlement.delay == 600.0


def test_who_was_put_off_often_waits_longer() -> None:
    (settlement,) = _postman().withhold([claimed(attempt=31)])
    assert settlement.delay is not None
    assert 31.0 <= settlement.delay <= 35.0


def test_what_has_no_route_is_given_up() -> None:
    (settlement,) = _postman().withhold([claimed(channel="voice")])
    assert (settlement.state, settlement.outcome, settlement.dead_reason) == ("failed", None, "no_route")
