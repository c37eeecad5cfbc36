"""Time that passes when a test says so, and clocks of processes that are wrong."""

import datetime as dt
import sys
import time

import pytest


class Clock:
    """Called for the time in seconds, as the functions of `time` are."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def set_clock_forward(patch: pytest.MonkeyPatch, seconds: float) -> None:
    """Have the clock of this process be fast, as the modules of the services read it."""
    true_time, ahead = time.time, dt.timedelta(seconds=seconds)

    class FastDatetime(dt.datetime):
        """Knows a time that has not come."""

        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> "FastDatetime":
            return super().now(tz) + ahead

    patch.setattr(time, "time", lambda: true_time() + seconds)
    for name, module in list(sys.modules.items()):
        if name.startswith("services.") and getattr(module, "datetime", None) is dt.datetime:
            patch.setattr(module, "datetime", FastDatetime)
