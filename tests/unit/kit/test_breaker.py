"""A breaker opens on failures, tries again after its cool-down, and does not flap."""

from services.kit.breaker import CLOSED, HALF_OPEN, OPEN, Breaker, BreakerPolicy

_POLICY = BreakerPolicy(
    consecutive_failures=3, failure_rate=0.5, minimum_sample=10, window=30.0, cool_down=10.0, probes=5
)


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _breaker(policy: BreakerPolicy = _POLICY) -> tuple[Breaker, Time, list[str]]:
    time, changes = Time(), list[str]()
    return Breaker(policy, clock=time, on_change=changes.append), time, changes


def test_it_opens_at_the_threshold_and_not_before() -> None:
    breaker, _, changes = _breaker()
    for _ in range(2):
        breaker.record(successes=0, failures=1)
    breaker.record(successes=1, failures=0)
    for _ in range(2):
        breaker.record(successes=0, failures=1)
    assert (breaker.state, breaker.admit(7)) == (CLOSED, 7)
    breaker.record(successes=0, failures=1)
    assert (breaker.state, breaker.admit(7), changes) == (OPEN, 0, [OPEN])


def test_it_opens_on_the_rate_of_failures_within_the_window() -> None:
    breaker, time, _ = _breaker()
    breaker.record(successes=5, failures=4)
    assert breaker.state == CLOSED
    breaker.record(successes=0, failures=1)
    assert breaker.state == OPEN
    breaker, time, _ = _breaker()
    breaker.record(successes=5, failures=4)
    time.now = 31.0
    breaker.record(successes=1, failures=1)
    assert breaker.state == CLOSED


def test_after_the_cool_down_a_fixed_number_of_probes_decides() -> None:
    breaker, time, changes = _breaker()
    breaker.record(successes=0, failures=3)
    assert breaker.wait() == 10.0
    time.now = 9.9
    assert breaker.admit(100) == 0
    time.now = 10.0
    assert (breaker.admit(3), breaker.admit(100), breaker.admit(100)) == (3, 2, 0)
    breaker.record(successes=4, failures=0)
    assert breaker.state == HALF_OPEN
    breaker.record(successes=1, failures=0)
    assert (breaker.state, changes) == (CLOSED, [OPEN, HALF_OPEN, CLOSED])


def test_a_provider_that_fails_every_second_time_stays_out() -> None:
    breaker, time, changes = _breaker()
    breaker.record(successes=0, failures=3)
    for _ in range(5):
        time.now += 10.0
        assert breaker.admit(100) == 5
        for number in range(4):
            breaker.record(successes=number % 2, failures=1 - number % 2)
        assert breaker.state == OPEN
    assert CLOSED not in changes


def test_probes_that_were_not_used_are_admitted_again() -> None:
    breaker, time, _ = _breaker()
    breaker.record(successes=0, failures=3)
    time.now = 10.0
    assert breaker.admit(5) == 5
    breaker.give_back(2)
    assert breaker.admit(5) == 2


def test_stragglers_do_not_prolong_the_cool_down() -> None:
    breaker, time, _ = _breaker()
    breaker.record(successes=0, failures=3)
    time.now = 9.0
    breaker.record(successes=0, failures=50)
    time.now = 10.0
    assert breaker.state == HALF_OPEN


def test_it_is_opened_and_closed_from_outside_once() -> None:
    breaker, _, changes = _breaker()
    breaker.trip()
    breaker.trip()
    breaker.reset()
    breaker.reset()
    assert changes == [OPEN, CLOSED]
    breaker.record(successes=0, failures=2)
    assert breaker.state == CLOSED
