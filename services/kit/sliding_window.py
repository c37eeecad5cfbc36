"""The sliding window counter: its arithmetic, and its counts in the memory of one process."""

import time
from collections.abc import Callable, Sequence
from math import floor
from typing import NamedTuple

# Keys in one generation of memory: some 150 MB when an attack fills both.
_MOST_KEYS = 200_000
# A moment past the edge at which one more passes.
_MOMENT = 0.001


class StorageAwayError(Exception):
    """The storage of the counts does not answer."""


class Window(NamedTuple):
    """Hits of one key. The window before counts by the part of it that is still within the period."""

    previous: int
    current: int
    # Seconds until the current window ends.
    left: float

    def used(self, period: int) -> int:
        """Return how much of a limit is used up."""
        if not self.previous:
            return self.current
        return floor(self.previous * self.left / period) + self.current

    def wait(self, limit: int, period: int) -> float:
        """Return the seconds until one more passes, if nobody else comes."""
        if self.used(period) < limit:
            return 0.0
        spare = limit - self.current
        if spare > 0:
            return self.left - spare * period / self.previous + _MOMENT
        # Only in the next window, once enough of this one has slid out.
        return self.left + max(0.0, period - limit * period / self.current) + _MOMENT


class Quota(NamedTuple):
    """A limit of somebody: so many in a period. Limits of different size are counted apart."""

    # What is limited: request, client, sender or address.
    scope: str
    subject: str
    limit: int


class _Counts:
    __slots__ = ("current", "previous", "start")

    def __init__(self, start: float) -> None:
        self.start = start
        self.current = 0
        self.previous = 0

    def window(self, now: float, period: int) -> Window:
        elapsed = now - self.start
        if elapsed < period:
            return Window(self.previous, self.current, period - elapsed)
        if elapsed < 2 * period:
            return Window(self.current, 0, 2 * period - elapsed)
        return Window(0, 0, period)

    def used(self, now: float, period: int) -> int:
        """Return how much of a limit is used up, in a window that has not ended yet."""
        if not self.previous:
            return self.current
        return self.window(now, period).used(period)


class MemoryWindows:
    """Counts of one process. Exact: nothing happens between looking and taking.

    A window begins with its key's first hit. Keys live in two generations; the older is dropped whole
    when the younger is two periods old, or full, so that nothing is ever swept.
    """

    def __init__(
        self, period: int, *, clock: Callable[[], float] = time.monotonic, most_keys: int = _MOST_KEYS
    ) -> None:
        self._period = period
        self._clock = clock
        self._most_keys = most_keys
        self._young: dict[Quota, _Counts] = {}
        self._old: dict[Quota, _Counts] = {}
        self._turn = 0.0

    async def take(self, quotas: Sequence[Quota], amount: int) -> tuple[int, list[Window]]:
        """Take up to `amount` of all quotas alike; return how much was had, and what they stand at."""
        now = self._clock()
        if now >= self._turn or len(self._young) >= self._most_keys:
            self._old, self._young = self._young, {}
            self._turn = now + 2 * self._period
        period = self._period
        had = amount
        found = []
        for quota in quotas:
            counts = self._counts(quota, now)
            found.append(counts)
            had = min(had, max(0, quota.limit - counts.used(now, period)))
        for counts in found:
            counts.current += had
        return had, [counts.window(now, period) for counts in found]

    async def look(self, quotas: Sequence[Quota]) -> list[Window]:
        """Return what quotas stand at."""
        now = self._clock()
        return [self._look(quota, now) for quota in quotas]

    async def give_back(self, quotas: Sequence[Quota], amount: int) -> None:
        """Return what was taken and not used."""
        now = self._clock()
        for quota in quotas:
            counts = self._counts(quota, now)
            counts.current = max(0, counts.current - amount)

    async def close(self) -> None:
        """Have nothing to close."""

    def _look(self, quota: Quota, now: float) -> Window:
        counts = self._young.get(quota) or self._old.get(quota)
        return Window(0, 0, self._period) if counts is None else counts.window(now, self._period)

    def _counts(self, quota: Quota, now: float) -> _Counts:
        counts = self._young.get(quota)
        if counts is None:
            counts = self._old.pop(quota, None) or _Counts(now)
            self._young[quota] = counts
        elapsed = now - counts.start
        if elapsed >= 2 * self._period or not (counts.current or counts.previous):
            counts.start, counts.previous, counts.current = now, 0, 0
        elif elapsed >= self._period:
            counts.start += self._period
            counts.previous, counts.current = counts.current, 0
        return counts
