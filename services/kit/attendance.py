"""A task that runs while somebody needs it, and for a while longer."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from services.kit.cancelling import cancel_all


class Attendance:
    """Starts `work` with the first who enters, and ends it `linger` seconds after the last has left.

    `rest` is called when it was ended so, to forget what is of no use without it.
    """

    def __init__(
        self, work: Callable[[], Coroutine[Any, Any, None]], rest: Callable[[], None], *, linger: float
    ) -> None:
        self._work = work
        self._rest = rest
        self._linger = linger
        self._task: asyncio.Task[None] | None = None
        self._end: asyncio.TimerHandle | None = None
        self.count = 0

    def enter(self) -> None:
        """Note that one more needs it."""
        self.count += 1
        if self._end is not None:
            self._end.cancel()
            self._end = None
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())

    def leave(self) -> None:
        """Note that one has left."""
        self.count -= 1
        if not self.count and self._task is not None:
            self._end = asyncio.get_running_loop().call_later(self._linger, self._stop)

    async def close(self) -> None:
        """End it now."""
        if self._end is not None:
            self._end.cancel()
        if self._task is not None:
            await cancel_all([self._task])
            self._task = None

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._rest()
