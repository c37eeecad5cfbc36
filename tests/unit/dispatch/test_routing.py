"""Which provider a message goes to, and what the attempt says of the choice."""

import random
from datetime import UTC, datetime
from typing import Any

import pytest

from services.dispatch.admission import Admission, Gate
from services.dispatch.breakers import Breakers
from services.dispatch.governor import Governor
from services.dispatch.history import NOTHING, History, history_of
from services.dispatch.retry import RetryPolicy, settlement_of
from services.dispatch.retry_budget import RetryBudget
from services.dispatch.routing import Router
from services.kit.breaker import BreakerPolicy
from services.kit.routes import parse_routes
from services.ledger.tries import Try
from services.providers.base import Rejected, Retryable
from tests.unit.kit.test_breaker import Time

from .samples import claimed, route

_ROUTING = {"sms": ["first", "second", "third"]}
_SINCE = datetime(2026, 3, 1, tzinfo=UTC)
_POLICY = RetryPolicy(max_attempts=3, base=1.0, longest=60.0)


class _Quick:
    inquiry_delay = 1.0


def _router() -> Router:
    providers: Any = {name: _Quick() for name in _ROUTING["sms"]}
    return Router(parse_routes("sms=first,second,third"), providers, failover_after=2)


def _gate(**rates: float) -> Gate:
    time = Time()
    breakers = Breakers(_ROUTING, BreakerPolicy(consecutive_failures=1, probes=3), clock=time)
    return Gate(_ROUTING, breakers, Governor(rates, {}, clock=time), {})


def _tried(*tries: tuple[str, str] | tuple[str, str, str]) -> History:
    made = [
        Try("m1", number, one[0], one[1], one[2] if len(one) > 2 else "503", _SINCE)
        for number, one in enumerate(tries, 1)
    ]
    return history_of(made, before=len(made) + 1)


@pytest.mark.parametrize(
    ("history", "provider", "reason"),
    [
        (NOTHING, "first", "position 1 of the route of sms"),
        (_tried(("first", "retryable")), "first", "position 1 of the route of sms"),
        (
            _tried(("first", "retryable"), ("first", "unknown")),
            "second",
            "position 2 of the route of sms; first failed 2 times",
        ),
        (
            _tried(("first", "rejected")),
            "second",
            "position 2 of the route of sms; first refused it for a fault of its own",
        ),
        (
            _tried(("first", "rejected"), ("second", "retryable"), ("second", "retryable")),
            "third",
            "position 3 of the route of sms; first refused it for a fault of its own; second failed 2 times",
        ),
        (_tried(("first", "retryable", "429"), ("first", "retryable", "20429")), "first", None),
        # Who has failed in every round comes round again; who has refused, only when all have.
        (_tried(*[(name, "retryable") for name in _ROUTING["sms"] for _ in range(2)]), "first", None),
        (_tried(*[(name, "rejected") for name in _ROUTING["sms"]]), "first", None),
    ],
)
def test_the_next_of_the_route_has_a_go(history: History, provider: str, reason: str | None) -> None:
    chosen = _router().choose(claimed(), history)
    assert chosen is not None
    assert chosen.provider == provider
    assert reason is None or chosen.reason == reason


def test_a_channel_without_a_route_has_no_provider() -> None:
    assert _router().choose(claimed(channel="voice")) is None
    assert _router().providers_of(claimed(channel="voice")) == []


def test_an_open_breaker_leads_to_the_next() -> None:
    gate = _gate()
    gate.record("first", "sms", successes=0, failures=1)
    assert not gate.clear
    with gate.admit("sms", 100, retry=False) as admission:
        assert admission.limit == 100
        chosen = _router().choose(claimed(), NOTHING, admission)
    assert chosen is not None
    assert chosen.provider == "second"
    assert chosen.reason == "position 2 of the route of sms; first is not taking any at the moment"


def test_nothing_is_admitted_while_every_breaker_is_open() -> None:
    gate = _gate()
    for name in _ROUTING["sms"]:
        gate.record(name, "sms", successes=0, failures=1)
    with gate.admit("sms", 100, retry=False) as admission:
        assert (admission.limit, admission.reason) == (0, "breaker")
        assert _router().choose(claimed(), NOTHING, admission) is None
    assert 10.0 <= gate.delay("sms", 5, "breaker") <= 10.5


def test_a_used_up_rate_is_waited_for_and_leads_nowhere_else() -> None:
    gate = _gate(first=30.0)
    with gate.admit("sms", 100, retry=False) as admission:
        assert (admission.limit, admission.reason) == (30, "rate")
        for _ in range(20):
            assert admission.take("first")
        admission.claimed = 20
    # Ten were not used.
    assert gate.admit("sms", 100, retry=False).limit == 10


def test_half_open_admits_probes_and_the_rest_goes_on() -> None:
    gate = _gate()
    gate.record("first", "sms", successes=0, failures=1)
    gate.breakers.of("first", "sms")._opened_at = -10.0
    with gate.admit("sms", 100, retry=False) as admission:
        assert admission.limit == 100
        chosen = [_router().choose(claimed(), NOTHING, admission) for _ in range(100)]
    assert [one.provider for one in chosen if one] == ["first"] * 3 + ["second"] * 97
    # Nobody has told what became of the probes: others may be made.
    assert gate.admit("sms", 3, retry=False)._reserved["first"] == 3


def test_probes_that_have_ended_are_not_made_again() -> None:
    gate = _gate()
    gate.record("first", "sms", successes=0, failures=1)
    gate.breakers.of("first", "sms")._opened_at = -10.0
    with gate.admit("sms", 3, retry=False) as admission:
        assert [admission.take("first") for _ in range(3)] == [True] * 3
        gate.record("first", "sms", successes=1)
        admission.tell("first", 1)
    assert gate.admit("sms", 3, retry=False)._reserved["first"] == 2


def test_retries_wait_for_their_budget_and_new_messages_do_not() -> None:
    gate = _gate()
    gate._budgets = {"sms": RetryBudget(0.1, 2000, initial=3, trickle=1.0, clock=Time())}
    with gate.admit("sms", 10, retry=True) as admission:
        assert (admission.limit, admission.reason) == (3, "budget")
        admission.claimed = 2
    assert isinstance(gate.admit("sms", 10, retry=True), Admission)
    assert gate.admit("sms", 10, retry=True).limit == 0
    assert gate.admit("sms", 10, retry=False).limit == 10


def test_a_fault_of_the_provider_is_no_end_while_another_is_left() -> None:
    fault = Rejected("20003", "credentials", provider_fault=True)
    draw = random.Random(1)  # noqa: S311 - a seed, no secret
    on = settlement_of(claimed(), fault, route(), _POLICY, draw, history=NOTHING, has_other=True)
    assert (on.state, on.outcome, on.event, on.delay, on.dead_reason) == (
        *("pending", "rejected", "retrying", 0.0, None),
    )
    end = settlement_of(claimed(), fault, route(), _POLICY, draw, history=NOTHING, has_other=False)
    assert (end.state, end.dead_reason) == ("failed", "rejected")
    plain = settlement_of(claimed(), Rejected("x"), route(), _POLICY, draw, history=NOTHING, has_other=True)
    assert plain.state == "failed"
    router = _router()
    assert router.has_other(claimed(), _tried(("first", "rejected")), "second")
    assert not router.has_other(claimed(), _tried(("first", "rejected"), ("third", "rejected")), "second")


# What HTTP, Twilio and SendGrid say.
@pytest.mark.parametrize("code", ["429", "20429", "http_429"])
def test_throttled_attempts_cost_nothing_and_end_all_the_same(code: str) -> None:
    draw = random.Random(1)  # noqa: S311 - a seed, no secret
    slow = Retryable(code, "slow down", retry_after=2.0)
    for number, state in ((150, "pending"), (200, "failed")):
        history = _tried(*[("first", "retryable", code)] * number)
        assert (history.counted, history.throttled, history.failures) == (0, number, {})
        message = claimed(attempt=number + 1)
        assert settlement_of(message, slow, route(), _POLICY, draw, history=history).state == state
    # Two that count leave one.
    history = _tried(("first", "retryable", "429"), ("first", "retryable"), ("first", "retryable"))
    for outcome, state in ((slow, "pending"), (Retryable("503"), "failed")):
        message = claimed(attempt=4)
        assert settlement_of(message, outcome, route(), _POLICY, draw, history=history).state == state
