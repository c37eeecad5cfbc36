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


def test_an_alternating_provider_does_not_make_it_flap() -> None:
    breaker, time, changes = _breaker(BreakerPolicy())
    for number in range(5000):
        if breaker.admit(1):
            breaker.record(successes=number % 2, failures=1 - number % 2)
        time.now += 0.1
    # It opens once; all probes after that find it failing still.
    assert "closed" not in changes
    assert changes.count("open") == changes.count("half_open") + (breaker.state != "half_open")


def test_it_asks_once_before_it_probes_and_stays_open_when_another_does() -> None:
    asked: list[int] = []
    time, changes = Time(), list[str]()
    breaker = Breaker(_POLICY, clock=time, on_change=changes.append, ask=lambda: asked.append(1))
    breaker.trip()
    time.now += _POLICY.cool_down
    assert (breaker.state, breaker.state, len(asked)) == ("open", "open", 1)
    assert breaker.admit(5) == 0
    breaker.leave_probing()
    # Nothing was heard for a cool-down: who took it upon itself may be gone.
    assert (breaker.state, breaker.wait(), len(asked)) == ("open", 1.0, 1)
    time.now += _POLICY.cool_down
    assert (breaker.state, len(asked)) == ("open", 2)
    breaker.begin_probing()
    assert (breaker.state, breaker.admit(100)) == ("half_open", _POLICY.probes)
    breaker.trip(age=_POLICY.cool_down / 2)
    assert breaker.wait() == _POLICY.cool_down / 2
    assert changes == ["open", "half_open", "open"]
