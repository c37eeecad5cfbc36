"""The governor: how many messages a provider may be given now."""

import time
from collections.abc import Callable, Mapping

from services.dispatch.buckets import SharedBucket

# Seconds that work is put off at most before it is looked at again: rates may have changed by then.
_LONGEST_WAIT = 60.0
# Seconds after which a provider with too much under way is asked again.
_CONCURRENCY_WAIT = 0.25


class _Limits:
    """This dispatcher's share of the rate and the concurrency of one provider; None is no limit."""

    def __init__(
        self,
        rate: float | None,
        concurrency: float | None,
        clock: Callable[[], float],
        dispatchers: Callable[[], int],
    ) -> None:
        self._bucket = None if rate is None else SharedBucket(rate, clock=clock, dispatchers=dispatchers)
        self._concurrency = concurrency
        self._dispatchers = dispatchers
        self._under_way = 0
        self._clock = clock
        self._booked_until = clock()

    def take(self, wanted: int) -> int:
        if self._concurrency is not None:
            most = max(1, int(self._concurrency / self._dispatchers()))
            wanted = max(0, min(wanted, most - self._under_way))
        taken = wanted if self._bucket is None else self._bucket.take(wanted)
        self._under_way += taken
        return taken

    def give_back(self, count: int) -> None:
        self.end(count)
        if self._bucket is not None:
            self._bucket.give_back(count)

    def end(self, count: int) -> None:
        self._under_way -= count

    def book(self, size: int) -> float:
        if self._bucket is None:
            return _CONCURRENCY_WAIT
        now = self._clock()
        # Envelopes come back one after the other, each for what a second or it itself has room for.
        start = max(now + self._bucket.wait(), self._booked_until)
        rate = self._bucket.rate
        self._booked_until = min(start + min(size, rate) / rate, now + _LONGEST_WAIT)
        return max(start - now, _CONCURRENCY_WAIT if self._concurrency is not None else 0.0)


class Governor:
    """Keeps each provider within its messages per second and its messages under way.

    The limits are those of all dispatchers together: `dispatchers` tells of how many this is one, and it
    keeps to its share, of the messages under way to one at least. `clock` returns monotonic seconds. A
    provider without a limit is never held back.
    """

    def __init__(
        self,
        rates: Mapping[str, float],
        concurrency: Mapping[str, float],
        *,
        clock: Callable[[], float] = time.monotonic,
        dispatchers: Callable[[], int] = lambda: 1,
    ) -> None:
        self._limits = {
            name: _Limits(rates.get(name), concurrency.get(name), clock, dispatchers)
            for name in {*rates, *concurrency}
        }
        self.unlimited = not self._limits

    def take(self, provider: str, wanted: int) -> int:
        """Return how many of `wanted` messages the provider may be given now; they count as under way."""
        limits = self._limits.get(provider)
        return wanted if limits is None else limits.take(wanted)

    def give_back(self, provider: str, count: int) -> None:
        """Return what was taken and not given to the provider."""
        if provider in self._limits:
            self._limits[provider].give_back(count)

    def end(self, provider: str, count: int) -> None:
        """Take note of messages that the provider has answered."""
        if provider in self._limits:
            self._limits[provider].end(count)

    def book(self, provider: str, size: int) -> float:
        """Return the seconds until a waiting envelope of this size may come back for some of it."""
        limits = self._limits.get(provider)
        return 0.0 if limits is None else limits.book(size)
