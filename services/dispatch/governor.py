"""Token buckets: how many messages a provider may be given now, and how many retries are left."""

import time
from collections.abc import Callable, Mapping

# Seconds that work is put off at most before it is looked at again: rates may have changed by then.
_LONGEST_WAIT = 60.0
# Seconds after which a provider with too much under way is asked again.
_CONCURRENCY_WAIT = 0.25


class TokenBucket:
    """Fills at `rate` tokens a second up to `burst`. `clock` returns monotonic seconds."""

    def __init__(
        self, rate: float, burst: float, *, clock: Callable[[], float], initial: float | None = None
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._tokens = burst if initial is None else initial
        self._filled_at = clock()

    def take(self, wanted: int) -> int:
        """Take up to `wanted` whole tokens and return how many there were."""
        self._fill()
        taken = min(wanted, int(self._tokens))
        self._tokens -= taken
        return taken

    def give_back(self, count: float) -> None:
        """Return tokens that were not used, or add some that were earned."""
        self._tokens = min(self._burst, self._tokens + count)

    def change_rate(self, rate: float, burst: float | None = None) -> None:
        """Fill at another rate from now on, and up to another number of tokens."""
        self._fill()
        self._rate = rate
        if burst is not None:
            self._burst = burst
            self.cap(burst)

    def cap(self, most: float) -> None:
        """Keep at most so many tokens in hand."""
        self._tokens = min(self._tokens, most)

    def wait(self) -> float:
        """Return the seconds until there is a whole token."""
        self._fill()
        return 0.0 if self._tokens >= 1 or not self._rate else (1 - self._tokens) / self._rate

    def _fill(self) -> None:
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now


class RetryBudget:
    """Lets retries be few while nothing succeeds: a share of first attempts, and a trickle per second.

    A provider that fails for everybody would otherwise get, on top of the new messages, each waiting one
    again and again, just when it can bear least. Each success allows two retries more, up to `burst` in
    hand: retries that succeed add no load but what has to be sent anyway. What was earned in better times
    is not kept for bad ones: once nothing succeeds, no more than `initial` stay in hand. Dispatchers have
    the trickle and `initial` together: `dispatchers` tells of how many this is one.
    """

    def __init__(
        self,
        ratio: float,
        burst: int,
        *,
        initial: int,
        trickle: float,
        clock: Callable[[], float],
        dispatchers: Callable[[], int] = lambda: 1,
    ) -> None:
        self._ratio = ratio
        self._initial = initial
        self._trickle = trickle
        self._dispatchers = dispatchers
        self._sharers = 1
        self._succeeding = False
        # The trickle lets a queue drain in which nothing new arrives.
        self._bucket = TokenBucket(trickle, burst, clock=clock, initial=initial)

    def earn(self, first_attempts: int, *, successes: int = 0) -> None:
        """Take note of a batch: its failed first attempts and its successes, which earn retries."""
        self._share()
        self._succeeding = successes > 0
        if not successes:
            self._bucket.cap(self._initial / self._sharers)
        self._bucket.give_back(first_attempts * self._ratio + successes * 2)

    def take(self, wanted: int) -> int:
        """Return how many of `wanted` retries may be made now."""
        self._share()
        return self._bucket.take(wanted)

    def give_back(self, count: int) -> None:
        """Return retries that were not made."""
        self._bucket.give_back(count)

    def wait(self) -> float:
        """Return the seconds until a retry may be made."""
        return self._bucket.wait()

    def _share(self) -> None:
        sharers = self._dispatchers()
        if sharers == self._sharers:
            return
        self._sharers = sharers
        self._bucket.change_rate(self._trickle / sharers)
        if not self._succeeding:
            self._bucket.cap(self._initial / sharers)


class _Limits:
    """This dispatcher's share of the rate and the concurrency of one provider; None is no limit."""

    def __init__(
        self,
        rate: float | None,
        concurrency: float | None,
        clock: Callable[[], float],
        dispatchers: Callable[[], int],
    ) -> None:
        self._whole_rate = self._rate = rate
        self._bucket = None if rate is None else TokenBucket(rate, max(1.0, rate), clock=clock)
        self._concurrency = concurrency
        self._dispatchers = dispatchers
        self._sharers = 1
        self._under_way = 0
        self._clock = clock
        self._booked_until = clock()

    def take(self, wanted: int) -> int:
        self._share()
        if self._concurrency is not None:
            most = max(1, int(self._concurrency / self._sharers))
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
        self._share()
        if self._bucket is None or self._rate is None:
            return _CONCURRENCY_WAIT
        now = self._clock()
        # Envelopes come back one after the other, each for what a second or it itself has room for.
        start = max(now + self._bucket.wait(), self._booked_until)
        self._booked_until = min(start + min(size, self._rate) / self._rate, now + _LONGEST_WAIT)
        return max(start - now, _CONCURRENCY_WAIT if self._concurrency is not None else 0.0)

    def _share(self) -> None:
        sharers = self._dispatchers()
        if sharers == self._sharers:
            return
        self._sharers = sharers
        if self._bucket is not None and self._whole_rate is not None:
            self._rate = self._whole_rate / sharers
            self._bucket.change_rate(self._rate, max(1.0, self._rate))


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
