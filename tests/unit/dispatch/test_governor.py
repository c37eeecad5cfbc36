"""Rates, concurrency and the retry budget hold over any stretch of time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.dispatch.buckets import TokenBucket
from services.dispatch.governor import Governor
from services.dispatch.retry_budget import RetryBudget
from tests.unit.kit.test_breaker import Time


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 100)), max_size=50))
def test_a_bucket_gives_no_more_than_its_rate_and_burst(steps: list[tuple[float, int]]) -> None:
    time = Time()
    bucket = TokenBucket(10.0, 20.0, clock=time)
    taken = 0
    for wait, wanted in steps:
        time.now += wait
        taken += bucket.take(wanted)
    assert taken <= 20 + 10 * time.now + 1e-6


def test_a_provider_gets_its_rate_and_no_more() -> None:
    time = Time()
    governor = Governor({"a": 30.0}, {}, clock=time)
    assert not governor.unlimited
    assert (governor.take("a", 100), governor.take("a", 100), governor.take("b", 100)) == (30, 0, 100)
    time.now = 0.5
    assert governor.take("a", 100) == 15
    governor.give_back("a", 5)
    assert governor.take("a", 100) == 5


def test_a_provider_has_so_many_under_way_at_once() -> None:
    governor = Governor({}, {"a": 10.0}, clock=Time())
    assert (governor.take("a", 8), governor.take("a", 8)) == (8, 2)
    assert governor.take("a", 1) == 0
    governor.end("a", 3)
    assert governor.take("a", 8) == 3


def test_dispatchers_share_what_a_provider_allows() -> None:
    time, dispatchers = Time(), 1
    governor = Governor({"a": 30.0}, {"b": 10.0}, clock=time, dispatchers=lambda: dispatchers)
    assert (governor.take("a", 5), governor.take("b", 2)) == (5, 2)
    dispatchers = 3
    # A second's worth is a second's worth of the share.
    assert (governor.take("a", 100), governor.take("b", 100)) == (10, 1)
    time.now += 0.5
    assert governor.take("a", 100) == 5
    assert governor.book("a", 100) == pytest.approx(0.1)
    governor.end("b", 3)
    dispatchers = 1
    assert (governor.take("a", 100), governor.take("b", 100)) == (0, 10)
    time.now += 0.5
    assert governor.take("a", 100) == 15


def test_each_dispatcher_may_have_one_under_way_and_send_now_and_then() -> None:
    time = Time()
    governor = Governor({"a": 1.0}, {"b": 2.0}, clock=time, dispatchers=lambda: 4)
    assert (governor.take("a", 100), governor.take("b", 100)) == (1, 1)
    time.now += 3.9
    assert governor.take("a", 100) == 0
    time.now += 0.2
    assert governor.take("a", 100) == 1


def test_waiting_envelopes_come_back_one_after_the_other_and_within_a_minute() -> None:
    time = Time()
    governor = Governor({"a": 10.0}, {}, clock=time)
    governor.take("a", 10)
    waits = [governor.book("a", 500) for _ in range(100)]
    assert waits[:3] == [0.1, 1.1, 2.1]
    assert max(waits) <= 60.0
    assert governor.book("b", 5) == 0.0


def test_without_limits_nothing_is_held_back() -> None:
    assert Governor({}, {}).unlimited


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 500), st.integers(0, 500)), max_size=30))
def test_while_nothing_succeeds_retries_are_a_share_of_first_attempts(
    steps: list[tuple[int, int, int]],
) -> None:
    time = Time()
    budget = RetryBudget(0.15, 2000, initial=100, trickle=1.0, clock=time)
    first = retries = 0
    for wait, fresh, waiting in steps:
        time.now += wait
        budget.earn(fresh)
        first += fresh
        retries += budget.take(waiting)
    assert retries <= 100 + time.now + 0.15 * first + 1e-6


@pytest.mark.parametrize("dispatchers", [1, 2, 4, 12])
def test_a_provider_down_gets_at_most_a_fifth_more_than_new_messages_in_any_minute(dispatchers: int) -> None:
    time = Time()
    budgets = [
        RetryBudget(0.15, 2000, initial=100, trickle=1.0, clock=time, dispatchers=lambda: dispatchers)
        for _ in range(dispatchers)
    ]
    # It has worked well until now.
    for budget in budgets:
        budget.earn(0, successes=10_000)
    retries: list[int] = []
    fresh = 10_000 // 600
    for step in range(3 * 600):
        time.now += 0.1
        for number, budget in enumerate(budgets):
            budget.earn(fresh if step % dispatchers == number else 0)
        retries.append(sum(budget.take(10_000) for budget in budgets))
    minutes = [sum(retries[start : start + 600]) for start in range(len(retries) - 600)]
    assert 1000 < max(minutes) <= 0.2 * 10_000


def test_a_dispatcher_that_comes_takes_its_share_from_the_others() -> None:
    time, dispatchers = Time(), 1
    budget = RetryBudget(0.0, 2000, initial=100, trickle=1.0, clock=time, dispatchers=lambda: dispatchers)
    dispatchers = 4
    assert budget.take(100) == 25
    time.now += 8
    assert budget.take(100) == 2
    dispatchers = 1
    assert budget.take(100) == 0
    time.now += 8
    assert budget.take(100) == 8


def test_what_succeeds_earns_more_retries() -> None:
    budget = RetryBudget(0.0, 2000, initial=0, trickle=0.0, clock=Time())
    assert (budget.take(5), budget.wait()) == (0, 0.0)
    budget.earn(0, successes=10)
    assert budget.take(100) == 20
    budget.earn(0, successes=10_000)
    assert budget.take(10_000) == 2000
