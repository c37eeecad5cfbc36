"""Token buckets: how many messages a provider or a sender may be given now, and how many retries are left."""

from collections.abc import Callable


class TokenBucket:
    """Fills at `rate` tokens a second up to `burst`. `clock` returns monotonic seconds."""

    def __init__(self, rate: float, burst: float, *, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._tokens = burst
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

    def wait(self) -> float:
        """Return the seconds until there is a whole token."""
        self._fill()
        return 0.0 if self._tokens >= 1 or not self._rate else (1 - self._tokens) / self._rate

    def _fill(self) -> None:
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now


class RetryBudget:
    """Lets retries be at most `ratio` of first attempts, over a stretch of at most `burst` retries.

    A provider that fails for everybody would otherwise get, on top of the new messages, each waiting one
    again and again, just when it can bear least.
    """

    def __init__(self, ratio: float, burst: int, *, trickle: float, clock: Callable[[], float]) -> None:
        self._ratio = ratio
        # The trickle lets a queue drain in which nothing new arrives.
        self._bucket = TokenBucket(trickle, burst, clock=clock)

    def earn(self, first_attempts: int) -> None:
        """Take note of first attempts, which earn retries."""
        self._bucket.give_back(first_attempts * self._ratio)

    def take(self, wanted: int) -> int:
        """Return how many of `wanted` retries may be made now."""
        return self._bucket.take(wanted)

    def give_back(self, count: int) -> None:
        """Return retries that were not made."""
        self._bucket.give_back(count)

    def wait(self) -> float:
        """Return the seconds until a retry may be made."""
        return self._bucket.wait()
