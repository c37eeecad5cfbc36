"""Watches the dependencies of a process and tells when they come and go."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from services.kit.logs import get_logger

_log = get_logger(__name__)

Check = Callable[[], Awaitable[bool]]


class HealthMonitor:
    """Runs every check about once a second; `healthy` is true while all required ones pass."""

    def __init__(
        self,
        required: Mapping[str, Check],
        on_change: Callable[[bool], Awaitable[None]],
        *,
        interval: float = 1.0,
        timeout: float = 2.0,
    ) -> None:
        self._required = dict(required)
        self._on_change = on_change
        self._interval = interval
        self._timeout = timeout
        self.states: dict[str, bool] = dict.fromkeys(self._required, False)
        self.healthy = False

    async def run(self) -> None:
        """Check for ever; cancel to stop."""
        while True:
            await self.check()
            await asyncio.sleep(self._interval)

    async def check(self) -> bool:
        """Run every check once and report a change."""
        names = list(self._required)
        results = await asyncio.gather(*(self._passes(self._required[name]) for name in names))
        for name, passed in zip(names, results, strict=True):
            if passed != self.states[name]:
                _log.log(20 if passed else 30, "dependency_changed", dependency=name, answers=passed)
        self.states = dict(zip(names, results, strict=True))
        healthy = all(results)
        if healthy != self.healthy:
            self.healthy = healthy
            await self._on_change(healthy)
        return healthy

    async def _passes(self, check: Check) -> bool:
        try:
            return await asyncio.wait_for(check(), self._timeout)
        except Exception:  # noqa: BLE001 - whatever it raises, the dependency does not answer
            return False
