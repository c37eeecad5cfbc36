"""Token buckets: one dispatcher's, and its part of what all dispatchers share. Times are in seconds."""

from collections.abc import Callable


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


class SharedBucket:
    """This dispatcher's part of a rate that all dispatchers keep together.

    It fills at `rate` divided by what `dispatchers` tells, up to a second's worth or one token. `clock`
    returns monotonic seconds.
    """

    def __init__(
        self, rate: float, *, clock: Callable[[], float], dispatchers: Callable[[], int] = lambda: 1
    ) -> None:
        self._whole_rate = rate
        self._dispatchers = dispatchers
        self._sharers = dispatchers()
        self._bucket = TokenBucket(self.rate, self.burst, clock=clock)

    @property
    def rate(self) -> float:
        """Tokens a second, as it was at the last take or wait."""
        return self._whole_rate / self._sharers

    @property
    def burst(self) -> float:
        """The most tokens in hand."""
        return max(1.0, self.rate)

    def take(self, wanted: int) -> int:
        """Take up to `wanted` whole tokens and return how many there were."""
        self._follow()
        return self._bucket.take(wanted)

    def give_back(self, count: int) -> None:
        """Return tokens that were not used."""
        self._bucket.give_back(count)

    def wait(self) -> float:
        """Return the seconds until there is a whole token."""
        self._follow()
        return self._bucket.wait()

    def _follow(self) -> None:
        sharers = self._dispatchers()
        if sharers != self._sharers:
            self._sharers = sharers
            self._bucket.change_rate(self.rate, self.burst)
