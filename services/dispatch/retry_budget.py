"""The retry budget: how many retries are left while a provider fails."""

from collections.abc import Callable

from services.dispatch.buckets import TokenBucket


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
