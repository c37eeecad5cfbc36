"""Ends tasks for certain: one cancellation may get lost on its way."""

import asyncio
from collections.abc import Collection
from typing import Any

_PATIENCE = 0.5


async def cancel_all(tasks: Collection["asyncio.Task[Any]"]) -> None:
    """Cancel tasks until they have ended, however they end.

    The wait_for of Python 3.11, which clients of servers use, forgets a cancellation that comes together
    with what it waited for; the task then goes on as if nothing had happened.
    """
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=_PATIENCE)
