"""How often each provider has failed of late, for the metrics: nothing is decided by it."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from services.kit import metrics

# Seconds that count, and seconds that share a bucket.
_WINDOW: Final = 60.0
_BUCKET: Final = 5.0
# Why messages of a channel that has a route are given up.
_REASONS: Final = ("rejected", "attempts_exhausted", "too_old", "expired", "opted_out", "no_route")


class ErrorRate:
    """Counts one provider's outcomes on one channel. `clock` returns monotonic seconds."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # [bucket's number, successes, failures], oldest first.
        self._buckets: deque[list[int]] = deque()
        self._in_a_row = 0

    def record(self, successes: int, failures: int) -> None:
        """Count the outcomes of a batch; of one with both, the order is unknown."""
        self._in_a_row = 0 if successes else self._in_a_row + failures
        number = int(self._clock() / _BUCKET)
        if not self._buckets or self._buckets[-1][0] != number:
            self._buckets.append([number, 0, 0])
            while len(self._buckets) > _WINDOW / _BUCKET + 1:
                self._buckets.popleft()
        self._buckets[-1][1] += successes
        self._buckets[-1][2] += failures

    def failures_in_a_row(self) -> float:
        """Return the number of failures since the last success."""
        return self._in_a_row

    def rate(self) -> float:
        """Return the share of failures within the window, 0 when there was no outcome."""
        oldest = (self._clock() - _WINDOW) / _BUCKET
        recent = [bucket for bucket in list(self._buckets) if bucket[0] > oldest]
        failures = sum(bucket[2] for bucket in recent)
        total = failures + sum(bucket[1] for bucket in recent)
        return failures / total if total else 0.0


class ErrorRates:
    """One for each provider of each channel's route; the metrics read them when they are asked."""

    def __init__(self, routing: Mapping[str, Sequence[str]]) -> None:
        self._rates = {(name, channel): ErrorRate() for channel, names in routing.items() for name in names}
        for place, rate in self._rates.items():
            metrics.PROVIDER_ERROR_RATE.labels(*place).set_function(rate.rate)
            metrics.PROVIDER_FAILURES_IN_A_ROW.labels(*place).set_function(rate.failures_in_a_row)
        # What is counted begins at 0, not with its first event: of a channel on which everything has failed
        # since the start no share could be told, nor of the first failures any rate.
        for name, channel in self._rates:
            metrics.MESSAGES_SENT.labels(channel, name)
            metrics.DISPATCH_SUCCESSES.labels(channel, name)
            for reason in _REASONS:
                metrics.MESSAGES_FAILED.labels(channel, reason)

    def record(self, provider: str, channel: str, successes: int, failures: int) -> None:
        """Count the outcomes of a batch."""
        rate = self._rates.get((provider, channel))
        if rate is not None and (successes or failures):
            rate.record(successes, failures)
