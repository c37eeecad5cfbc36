"""Timeouts that pass at once: a fake that falls silent lets its client's clock jump ahead.

So a provider has the timeouts of real life in tests: no machine is too slow for them, and nobody waits.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import NoReturn

# Seconds that pass while a fake is silent: more than the timeout of a request in tests, which is `TIMEOUT`.
SILENCE = 30.0
TIMEOUT = 20.0

_standing: list[bool] = []


async def keep_silent() -> NoReturn:
    """Say nothing, for ever; the clock of the loop jumps by `SILENCE` seconds unless it stands still."""
    # As it was when the silence began: the call may be over, and the next under way, when it is acted upon.
    stands = bool(_standing)
    # What was written before reaches the client first.
    for _ in range(50):
        await asyncio.sleep(0)
    if not stands:
        pass_time(SILENCE)
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")


def pass_time(seconds: float) -> None:
    """Let timers of the running loop see so many seconds pass."""
    loop = asyncio.get_running_loop()
    now = loop.time
    loop.time = lambda: now() + seconds  # type: ignore[method-assign]


@contextlib.contextmanager
def standing_clock() -> Iterator[None]:
    """Let silence take as long as it takes."""
    _standing.append(True)
    try:
        yield
    finally:
        _standing.pop()
