"""Rate limits: how much callers may do in a period, and what they are told about it."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from services.kit import metrics
from services.kit.config import Settings
from services.kit.errors import QuotaViolation, RateLimitedError, Violation
from services.kit.logs import get_logger
from services.kit.sliding_window import MemoryWindows, Quota, StorageAwayError, Window

_log = get_logger(__name__)

# Failures in a row after which the storage is taken for away; a moment of overload is no outage.
_PATIENCE = 3
# Seconds for which it is then left alone.
_PAUSE = 1.0
_MEMORY = "memory://"
_NOUNS = {
    "request": "requests per {period} s for this client and endpoint",
    "client": "messages per {period} s for this client",
    "sender": "messages per {period} s from this sender",
    "address": "messages per {period} s from this network address",
}


class Verdict(NamedTuple):
    """What the tightest of some limits says."""

    allowed: bool
    # Hits allowed in a period; 0 when nothing is limited.
    limit: int
    remaining: int
    # Seconds until the current window ends, 0 when nothing of it is used. After it what was used in it
    # comes back evenly over one period.
    reset_seconds: float
    # Seconds until one more passes; 0 when one passes now.
    retry_after: float = 0.0
    scope: str = ""
    subject: str = ""


UNLIMITED = Verdict(allowed=True, limit=0, remaining=0, reset_seconds=0.0)


class Windows(Protocol):
    """Where the counts are."""

    async def take(self, quotas: Sequence[Quota], amount: int) -> tuple[int, list[Window]]:
        """Take up to `amount` of all quotas alike; return how much was had, and what they stand at."""

    async def look(self, quotas: Sequence[Quota]) -> list[Window]:
        """Return what quotas stand at."""

    async def give_back(self, quotas: Sequence[Quota], amount: int) -> None:
        """Return what was taken and not used."""

    async def close(self) -> None:
        """Let go of the storage."""


class RateLimiter:
    """Limits by a sliding window. While the storage is away everything passes, counted and logged once."""

    def __init__(self, windows: Windows, period: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.period = period
        self._windows = windows
        self._clock = clock
        self._failures = 0
        self._away_until = 0.0

    @classmethod
    def build(cls, settings: Settings) -> "RateLimiter | None":
        """Return the limiter that the settings ask for, None when they switch it off."""
        if not settings.rate_limit_enabled:
            return None
        period = settings.rate_limit_period
        url = settings.rate_limit_storage
        if url == _MEMORY:
            return cls(MemoryWindows(period), period)
        # Its client takes a fifth of a process's start; most do without it.
        from services.kit.redis_windows import RedisWindows  # noqa: PLC0415

        return cls(RedisWindows(url, period), period)

    async def take(self, quotas: Sequence[Quota], amount: int = 1) -> tuple[int, Verdict]:
        """Take up to `amount` of all quotas alike; return how much may pass, and what the tightest says."""
        if not self._skips():
            try:
                had, windows = await self._windows.take(quotas, amount)
            except StorageAwayError as error:
                self._lost(error)
            else:
                self._found()
                verdict = self._verdict(quotas, windows, allowed=had == amount)
                if had < amount:
                    metrics.RATE_LIMITED.labels(verdict.scope).inc(amount - had)
                return had, verdict
        metrics.RATE_LIMIT_UNCHECKED.inc(amount)
        return amount, _open(quotas)

    async def peek(self, quotas: Sequence[Quota]) -> Verdict:
        """Return what taking one would meet, without taking it."""
        if not self._skips():
            try:
                windows = await self._windows.look(quotas)
            except StorageAwayError as error:
                self._lost(error)
            else:
                self._found()
                passes = all(
                    window.used(self.period) < quota.limit
                    for quota, window in zip(quotas, windows, strict=True)
                )
                return self._verdict(quotas, windows, allowed=passes)
        return _open(quotas)

    async def give_back(self, quotas: Sequence[Quota], amount: int) -> None:
        """Return what was taken for something that was not done after all."""
        if amount and not self._skips():
            try:
                await self._windows.give_back(quotas, amount)
            except StorageAwayError as error:
                self._lost(error)

    async def close(self) -> None:
        """Let go of the storage."""
        await self._windows.close()

    def refusal(self, verdict: Verdict) -> RateLimitedError:
        """Return the error of a verdict that does not allow."""
        noun = _NOUNS[verdict.scope].format(period=self.period)
        text = f"the limit of {verdict.limit} {noun} is used up"
        # Of what is limited, a sender alone is a field of the request.
        violations = [Violation("sender", text)] if verdict.scope == "sender" else []
        return RateLimitedError(
            text,
            violations=violations,
            retry_after=verdict.retry_after,
            quotas=[QuotaViolation(verdict.subject, text)],
        )

    def _verdict(self, quotas: Sequence[Quota], windows: Sequence[Window], *, allowed: bool) -> Verdict:
        period = self.period
        quota, window = quotas[0], windows[0]
        if len(quotas) > 1:
            # Who has to wait longest, else who has least left.
            quota, window = max(
                zip(quotas, windows, strict=True),
                key=lambda each: (each[1].wait(each[0].limit, period), each[1].used(period) - each[0].limit),
            )
        remaining = max(0, quota.limit - window.used(period))
        return Verdict(
            allowed,
            quota.limit,
            remaining,
            reset_seconds=window.left if window.previous or window.current else 0.0,
            retry_after=0.0 if remaining else window.wait(quota.limit, period),
            scope=quota.scope,
            subject=quota.subject,
        )

    def _skips(self) -> bool:
        """Tell whether the storage is to be left alone; after each pause one caller tries it."""
        if self._failures < _PATIENCE:
            return False
        now = self._clock()
        if now < self._away_until:
            return True
        self._away_until = now + _PAUSE
        return False

    def _lost(self, error: StorageAwayError) -> None:
        self._away_until = self._clock() + _PAUSE
        self._failures += 1
        if self._failures == _PATIENCE:
            _log.warning("rate_limit_storage_away", error=str(error), effect="nothing is limited meanwhile")

    def _found(self) -> None:
        if self._failures >= _PATIENCE:
            _log.info("rate_limit_storage_back")
        self._failures = 0


def _open(quotas: Sequence[Quota]) -> Verdict:
    tightest = min(quotas, key=lambda quota: quota.limit)
    return Verdict(
        allowed=True, limit=tightest.limit, remaining=tightest.limit, reset_seconds=0.0, scope=tightest.scope
    )
