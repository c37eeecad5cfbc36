"""The limiter in one process: exact under concurrency, sliding, bounded, open when it cannot count."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from services.kit.config import Settings
from services.kit.rate_limits import RateLimiter, Verdict
from services.kit.redis_windows import StorageAwayError
from services.kit.sliding_window import MemoryWindows, Quota, Window
from tests.clock import Clock

PERIOD = 60
TEN = Quota("request", "key:1 GET /", 10)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(clock: Clock) -> RateLimiter:
    return RateLimiter(MemoryWindows(PERIOD, clock=clock), PERIOD, clock=clock)


async def test_ten_thousand_concurrent_hits_admit_exactly_the_limit() -> None:
    quota = Quota("request", "key:1 POST /", 777)
    limiter = RateLimiter(MemoryWindows(PERIOD), PERIOD)

    async def hit() -> int:
        await asyncio.sleep(0)
        return (await limiter.take([quota]))[0]

    assert sum(await asyncio.gather(*(hit() for _ in range(10_000)))) == 777


async def test_concurrent_batches_admit_exactly_the_limit() -> None:
    quota = Quota("sender", "+15551234567", 1000)
    limiter = RateLimiter(MemoryWindows(PERIOD), PERIOD)
    had = await asyncio.gather(*(limiter.take([quota], 1 + number % 7) for number in range(10_000)))
    assert sum(each for each, _ in had) == 1000


async def test_a_batch_gets_what_is_left(limiter: RateLimiter) -> None:
    assert (await limiter.take([TEN], 7))[0] == 7
    had, verdict = await limiter.take([TEN], 7)
    assert (had, verdict.allowed, verdict.limit, verdict.remaining) == (3, False, 10, 0)
    assert (await limiter.take([TEN], 1))[0] == 0


async def test_a_full_window_comes_back_evenly_over_the_next(limiter: RateLimiter, clock: Clock) -> None:
    had, verdict = await limiter.take([TEN], 10)
    assert (had, verdict.allowed, verdict.remaining, verdict.reset_seconds) == (10, True, 0, 60.0)
    clock.now += 59.9
    assert (await limiter.take([TEN]))[0] == 0
    admitted = []
    for _ in range(10):
        clock.now += 6
        admitted.append((await limiter.take([TEN], 10))[0])
    assert admitted == [1] * 10
    clock.now += 2 * PERIOD
    assert (await limiter.peek([TEN])).remaining == 10


async def test_looking_sees_the_window_slide(limiter: RateLimiter, clock: Clock) -> None:
    await limiter.take([TEN], 10)
    seen = []
    for _ in range(5):
        seen.append((await limiter.peek([TEN])).remaining)
        clock.now += 30
    assert seen == [0, 0, 0, 5, 10]


async def test_waiting_as_told_is_enough_and_not_too_long(limiter: RateLimiter, clock: Clock) -> None:
    await limiter.take([TEN], 10)
    for _ in range(30):
        had, verdict = await limiter.take([TEN])
        if had:
            continue
        clock.now += verdict.retry_after - 0.01
        assert (await limiter.take([TEN]))[0] == 0
        clock.now += 0.01
        assert (await limiter.peek([TEN])).allowed


@given(
    previous=st.integers(0, 50),
    current=st.integers(0, 50),
    left=st.floats(0.01, PERIOD),
    limit=st.integers(1, 50),
)
def test_the_wait_is_the_earliest_moment_one_passes(
    previous: int, current: int, left: float, limit: int
) -> None:
    previous, current = min(previous, limit), min(current, limit)
    wait = Window(previous, current, left).wait(limit, PERIOD)

    def passes(after: float) -> bool:
        if after < left:
            return Window(previous, current, left - after).used(PERIOD) < limit
        return Window(current, 0, PERIOD - (after - left)).used(PERIOD) < limit

    assert passes(wait)
    assert wait == 0 or not passes(max(0.0, wait - 0.01))


async def test_several_limits_are_taken_alike_or_not_at_all(limiter: RateLimiter) -> None:
    small = Quota("sender", "+15551234567", 4)
    had, verdict = await limiter.take([TEN, small], 6)
    assert (had, verdict.scope, verdict.limit) == (4, "sender", 4)
    assert (await limiter.peek([TEN])).remaining == 6
    assert (await limiter.take([TEN, small]))[0] == 0
    assert (await limiter.peek([TEN])).remaining == 6


async def test_looking_takes_nothing(limiter: RateLimiter) -> None:
    for _ in range(20):
        assert await limiter.peek([TEN]) == Verdict(
            allowed=True,
            limit=10,
            remaining=10,
            reset_seconds=0.0,
            retry_after=0.0,
            scope="request",
            subject=TEN.subject,
        )
    await limiter.take([TEN], 10)
    assert not (await limiter.peek([TEN])).allowed


async def test_what_was_not_used_goes_back(limiter: RateLimiter) -> None:
    await limiter.take([TEN], 10)
    await limiter.give_back([TEN], 4)
    assert (await limiter.take([TEN], 9))[0] == 4
    await limiter.give_back([TEN], 99)
    assert (await limiter.peek([TEN])).remaining == 10


async def test_limits_of_different_size_and_subject_are_counted_apart(limiter: RateLimiter) -> None:
    await limiter.take([TEN], 10)
    assert (await limiter.take([TEN._replace(limit=11)], 11))[0] == 11
    assert (await limiter.take([TEN._replace(subject="key:2 GET /")], 10))[0] == 10
    assert (await limiter.take([TEN._replace(scope="sender")], 10))[0] == 10


async def test_counts_outlive_two_turns_of_the_generations(clock: Clock) -> None:
    windows = MemoryWindows(PERIOD, clock=clock)
    await windows.take([TEN], 0)
    clock.now += 2 * PERIOD - 1
    await windows.take([TEN], 5)
    clock.now += 2
    assert (await windows.take([TEN._replace(subject="other")], 1))[0] == 1
    assert (await windows.take([TEN], 3))[0] == 3
    assert (await windows.take([TEN], 10))[0] == 2


async def test_memory_is_bounded_in_time_and_in_keys(clock: Clock) -> None:
    windows = MemoryWindows(PERIOD, clock=clock, most_keys=100)
    for number in range(1000):
        await windows.take([Quota("request", str(number), 10)], 1)
    assert len(windows._young) + len(windows._old) <= 200
    assert (await windows.look([Quota("request", "999", 10)]))[0].current == 1
    for _ in range(2):
        clock.now += 2 * PERIOD
        await windows.take([TEN], 1)
    assert set(windows._young) | set(windows._old) == {TEN}


async def test_a_refusal_says_whose_limit_and_when_to_come_back(limiter: RateLimiter) -> None:
    await limiter.take([TEN], 10)
    _, verdict = await limiter.take([TEN])
    error = limiter.refusal(verdict)
    assert error.reason == "RATE_LIMITED"
    assert error.retry_after == pytest.approx(60, abs=0.01)
    assert "the limit of 10 requests per 60 s" in error.message
    assert [quota.subject for quota in error.quotas] == [TEN.subject]


class Broken(MemoryWindows):
    """A storage that can be away."""

    away = True
    asked = 0

    async def take(self, quotas: Sequence[Quota], amount: int) -> tuple[int, list[Window]]:
        await self._ask()
        return await super().take(quotas, amount)

    async def look(self, quotas: Sequence[Quota]) -> list[Window]:
        await self._ask()
        return await super().look(quotas)

    async def _ask(self) -> None:
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise StorageAwayError("ConnectionError")


def unchecked() -> float:
    return REGISTRY.get_sample_value("rate_limit_unchecked_total") or 0.0


async def test_while_the_storage_is_away_everything_passes_counted_and_logged_once(clock: Clock) -> None:
    windows = Broken(PERIOD, clock=clock)
    limiter = RateLimiter(windows, PERIOD, clock=clock)
    before = unchecked()
    with capture_logs() as logs:
        for _ in range(50):
            had, verdict = await limiter.take([TEN])
            assert (had, verdict.allowed, verdict.limit, verdict.remaining) == (1, True, 10, 10)
            assert (await limiter.peek([TEN])).allowed
            clock.now += 0.1
        assert [log["event"] for log in logs] == ["rate_limit_storage_away"]
        # Asked again about once a second, rather than by everyone.
        assert 3 + 3 <= windows.asked <= 3 + 5
        assert unchecked() - before == 50
        windows.away = False
        clock.now += 1
        await limiter.take([TEN], 10)
        assert (await limiter.take([TEN]))[0] == 0
    assert [log["event"] for log in logs] == ["rate_limit_storage_away", "rate_limit_storage_back"]


async def test_while_one_asks_a_storage_that_was_away_the_others_pass(clock: Clock) -> None:
    windows = Broken(PERIOD, clock=clock)
    limiter = RateLimiter(windows, PERIOD, clock=clock)
    for _ in range(3):
        await limiter.take([TEN])
    clock.now += 2
    await asyncio.gather(*(limiter.take([TEN]) for _ in range(20)))
    assert windows.asked == 3 + 1


async def test_a_moment_without_the_storage_is_no_outage(clock: Clock) -> None:
    windows = Broken(PERIOD, clock=clock)
    limiter = RateLimiter(windows, PERIOD, clock=clock)
    with capture_logs() as logs:
        for _ in range(5):
            windows.away = True
            assert (await limiter.take([TEN], 2))[0] == 2
            windows.away = False
            await limiter.take([TEN], 2)
    assert logs == []
    assert (await limiter.take([TEN]))[0] == 0


def test_limits_can_be_switched_off() -> None:
    assert RateLimiter.build(Settings.model_validate({"rate_limit_enabled": False})) is None
    assert RateLimiter.build(Settings()) is not None
