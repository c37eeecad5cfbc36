"""Watches the dependencies of a process and tells when they come and go."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping

from services.kit import metrics
from services.kit.logs import get_logger

_log = get_logger(__name__)

# Seconds that a check which is under way is given when nobody wants to know any more.
_PARTING = 0.5

Check = Callable[[], Awaitable[bool]]


class HealthMonitor:
    """Runs every check about once a second; `healthy` is true while all required ones pass.

    `reported` ones are told and decide nothing. `on_report` hears of each check that has changed.
    """

    def __init__(
        self,
        required: Mapping[str, Check],
        on_change: Callable[[bool], Awaitable[None]],
        *,
        reported: Mapping[str, Check] | None = None,
        on_report: Callable[[str, bool], Awaitable[None]] | None = None,
        interval: float = 1.0,
        timeout: float = 2.0,
    ) -> None:
        self._required = frozenset(required)
        self._checks = {**required, **(reported or {})}
        self._on_report = on_report
        # What was last seen of each, once it was looked at.
        self._told: dict[str, bool] = {}
        self._on_change = on_change
        self._interval = interval
        self._timeout = timeout
        self.states: dict[str, bool] = dict.fromkeys(required, False)
        self.reported: dict[str, bool] = dict.fromkeys(reported or (), False)
        self.healthy = False
        # Checks that were late and have not noticed yet that they were cancelled.
        self._late: dict[str, asyncio.Future[bool]] = {}

    async def run(self) -> None:
        """Check for ever; cancel to stop."""
        while True:
            await self.check()
            await asyncio.sleep(self._interval)

    async def check(self) -> bool:
        """Run every check once and report a change."""
        names = list(self._checks)
        results = await asyncio.gather(*(self._passes(name) for name in names))
        for name, passed in zip(names, results, strict=True):
            metrics.DEPENDENCY_UP.labels(name).set(passed)
            if passed != self._told.get(name, False):
                _log.log(20 if passed else 30, "dependency_changed", dependency=name, answers=passed)
            if passed != self._told.get(name) and self._on_report is not None:
                await self._on_report(name, passed)
            self._told[name] = passed
        found = dict(zip(names, results, strict=True))
        self.states = {name: passed for name, passed in found.items() if name in self._required}
        self.reported = {name: passed for name, passed in found.items() if name not in self._required}
        healthy = all(self.states.values())
        if healthy != self.healthy:
            self.healthy = healthy
            await self._on_change(healthy)
        return healthy

    async def _passes(self, name: str) -> bool:
        # Never waited for: a cancelled query ends only when a server that hangs comes back to life.
        late = self._late.get(name)
        if late is not None and not late.done():
            return False
        check = asyncio.ensure_future(self._checks[name]())
        try:
            done, _ = await asyncio.wait((check,), timeout=self._timeout)
        except asyncio.CancelledError:
            check.cancel()
            # For a moment, so that it gives back what it holds before that is closed.
            await asyncio.wait((check,), timeout=_PARTING)
            raise
        if not done:
            check.cancel()
            check.add_done_callback(_forget)
            self._late[name] = check
            return False
        return not check.cancelled() and check.exception() is None and check.result()


def parted(
    checks: Mapping[str, Check], followed: Collection[str]
) -> tuple[dict[str, Check], dict[str, Check]]:
    """Part checks into those that decide whether a process is healthy, and those that are reported."""
    required = {name: check for name, check in checks.items() if name in followed}
    return required, {name: check for name, check in checks.items() if name not in followed}


def _forget(check: "asyncio.Future[bool]") -> None:
    if not check.cancelled():
        check.exception()  # looked at, so that nobody complains that it never was
