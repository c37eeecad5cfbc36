"""Work that goes on for as long as its process, whatever nobody foresaw."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from services.kit import metrics
from services.kit.logs import get_logger

_log = get_logger(__name__)

# Seconds until work that has failed begins again.
_PAUSE: Final = 1.0


def in_background(name: str, work: Callable[[], Awaitable[Any]]) -> "asyncio.Task[None]":
    """Start work that has no end of its own; cancel the task to end it.

    What it raises is logged and counted, and it begins again: a task that nobody waits for would end in
    silence, and with it what everything else relies on.
    """
    return asyncio.create_task(_keep_going(name, work), name=name)


async def _keep_going(name: str, work: Callable[[], Awaitable[Any]]) -> None:
    while True:
        try:
            await work()
        except Exception:  # noqa: BLE001 - whatever it is
            metrics.BACKGROUND_FAILURES.labels(name).inc()
            _log.exception("background_work_failed", work=name)
            await asyncio.sleep(_PAUSE)
        else:
            return
