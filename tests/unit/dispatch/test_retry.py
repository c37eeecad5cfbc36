"""What follows from an outcome, and when a message is tried again."""

import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.dispatch.history import History
from services.dispatch.retry import RetryPolicy, expiry_of, held_back, settlement_of
from services.ledger.states import can_move
from services.providers.base import Accepted, Outcome, Rejected, Retryable, Unknown

from .samples import claimed, route

_DRAW = random.Random(7)  # noqa: S311 - a seed, no secret
_POLICY = RetryPolicy(max_attempts=5, base=1.0, longest=300.0)

_policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 100),
    base=st.floats(0.001, 10.0),
    longest=st.floats(0.001, 3600.0),
)
_draws = st.builds(random.Random, st.integers())


@given(_policies, st.integers(1, 100), st.none() | st.floats(0.0, 1e6), _draws)
def test_a_backoff_is_within_its_bounds(
    policy: RetryPolicy, attempt: int, retry_after: float | None, draw: random.Random
) -> None:
    delay = policy.backoff(attempt, retry_after, draw)
    ceiling = min(policy.longest, policy.base * 2 ** (attempt - 1))
    asked = min(retry_after or 0.0, 3600.0)
    assert asked <= delay <= max(ceiling, asked)


@given(_draws)
def test_a_backoff_may_be_anything_up_to_its_ceiling(draw: random.Random) -> None:
    delays = [_POLICY.backoff(4, None, draw) for _ in range(500)]
    assert max(delays) <= 8.0
    # Full jitter: what failed together does not come back together.
    assert min(delays) < 1.0
    assert max(delays) > 7.0


def test_the_ceiling_doubles_until_it_is_reached() -> None:
    class Highest(random.Random):
        def uniform(self, a: float, b: float) -> float:
            return max(a, b)

    delays = [_POLICY.backoff(attempt, None, Highest()) for attempt in range(1, 12)]
    assert delays == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_retry_after_is_a_lower_bound_and_capped() -> None:
    assert _POLICY.backoff(1, 60.0, _DRAW) == 60.0
    assert _POLICY.backoff(1, 3600.0, _DRAW) == 3600.0
    assert _POLICY.backoff(1, 86_400.0, _DRAW) == 3600.0
    assert _POLICY.backoff(9, 0.001, _DRAW) > 0.001
    assert _POLICY.backoff(1, -5.0, _DRAW) >= 0.0


@pytest.mark.parametrize(
    ("outcome", "attempt", "state", "kind", "event", "dead_reason"),
    [
        (Accepted("SM1"), 1, "sent", "accepted", "sent", None),
        (Rejected("21211", "no"), 1, "failed", "rejected", "failed", "rejected"),
        (Retryable("429", "slow"), 1, "pending", "retryable", "retrying", None),
        (Retryable("503", "slow"), 4, "pending", "retryable", "retrying", None),
        (Retryable("503", "slow"), 5, "failed", "retryable", "failed", "attempts_exhausted"),
        (Retryable("503", "slow"), 6, "failed", "retryable", "failed", "attempts_exhausted"),
        (Unknown("timeout", "?"), 1, "unknown", "unknown", "unknown", None),
        # Whether it is the last is known only once it is known what became of it.
        (Unknown("timeout", "?"), 5, "unknown", "unknown", "unknown", None),
    ],
)
def test_each_outcome_has_its_settlement(
    outcome: Outcome, attempt: int, state: str, kind: str, event: str, dead_reason: str | None
) -> None:
    message = claimed(attempt=attempt)
    settlement = settlement_of(message, outcome, route(), _POLICY, _DRAW)
    assert (settlement.state, settlement.outcome, settlement.event, settlement.dead_reason) == (
        state,
        kind,
        event,
        dead_reason,
    )
    assert (settlement.id, settlement.attempt, settlement.start_time) == ("m1", attempt, message.attempt_time)
    assert (settlement.provider, settlement.route_reason) == ("first", "the only one")
    assert can_move("sending", state)
    if isinstance(outcome, Accepted):
        assert (settlement.provider_message_id, settlement.error_code, settlement.delay) == (
            "SM1",
            None,
            None,
        )
    else:
        assert (settlement.error_code, settlement.error_message) == (
            outcome.error_code,
            outcome.error_message,
        )
    assert (settlement.delay is not None) == (state in ("pending", "unknown"))


@pytest.mark.parametrize(
    ("age", "code", "retry_after", "state"),
    [
        (0.0, "503", None, "pending"),
        (3590.0, "503", 5.0, "pending"),
        (3590.0, "503", 11.0, "failed"),
        (3601.0, "503", None, "failed"),
        # Throttling costs no attempt, and yet it is not for ever.
        (3590.0, "429", 5.0, "pending"),
        (3601.0, "429", None, "failed"),
    ],
)
def test_a_message_is_not_tried_beyond_its_greatest_age(
    age: float, code: str, retry_after: float | None, state: str
) -> None:
    message = claimed(attempt=2)
    policy = RetryPolicy(max_attempts=5, base=0.001, longest=0.001, max_age=3600.0)
    history = History(counted=1, since=message.attempt_time - timedelta(seconds=age), retrying=True)
    outcome = Retryable(code, "later", retry_after)
    settlement = settlement_of(message, outcome, route(), policy, _DRAW, history=history)
    assert (settlement.state, settlement.outcome) == (state, "retryable")
    assert settlement.dead_reason == (None if state == "pending" else "too_old")


def test_what_is_not_to_be_tried_again_at_all_is_given_up_after_its_first_attempt() -> None:
    policy = RetryPolicy(max_attempts=5, base=1.0, longest=300.0, max_age=60.0)
    settlement = settlement_of(claimed(), Retryable("503", "", 600.0), route(), policy, _DRAW)
    assert (settlement.state, settlement.dead_reason) == ("failed", "too_old")


def test_a_provider_without_ids_leaves_none() -> None:
    assert settlement_of(claimed(), Accepted(""), route(), _POLICY, _DRAW).provider_message_id is None


def test_an_unknown_outcome_is_asked_for_when_the_provider_can_know() -> None:
    settlement = settlement_of(claimed(), Unknown("timeout"), route(inquiry_delay=12.5), _POLICY, _DRAW)
    assert settlement.delay == 12.5


def test_what_has_expired_is_given_up_without_an_attempt() -> None:
    settlement = expiry_of(claimed())
    assert (settlement.state, settlement.outcome, settlement.provider) == ("failed", None, None)
    assert (settlement.error_code, settlement.dead_reason) == ("expired", "expired")


@pytest.mark.parametrize(("attempt", "state"), [(31_999, "pending"), (32_000, "failed")])
def test_what_is_held_back_for_weeks_is_given_up_before_its_number_overflows(
    attempt: int, state: str
) -> None:
    settlement = held_back(claimed(attempt=attempt), 60.0, "no provider takes any")
    assert settlement.state == state
    assert settlement.dead_reason == (None if state == "pending" else "too_old")
    assert settlement.outcome is None
