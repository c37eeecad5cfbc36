"""The tasks of a dispatcher that take work, and those that stand in for tasks that wait."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator


class Slots:
    """Runs `work` again and again in `concurrency` tasks, and in more for as long as some of these wait."""

    def __init__(self, work: Callable[[], Awaitable[None]], concurrency: int) -> None:
        self._work = work
        self._concurrency = concurrency
        # Whether a task works, rather than waits for work.
        self._busy: dict[asyncio.Task[None], bool] = {}
        self._waiting = 0
        self._closing = False
        # Whether too little of the grace is left to begin anything.
        self.late = False

    def start(self) -> None:
        """Begin to work."""
        for _ in range(self._concurrency):
            self._add()

    async def close(self, grace: float) -> None:
        """Take no more work, let what is under way end within `grace` seconds, and cancel what has not.

        After the first half of them it is `late`.
        """
        self._closing = True
        for task, busy in tuple(self._busy.items()):
            if not busy:
                task.cancel()
        if self._busy:
            _, left = await asyncio.wait(tuple(self._busy), timeout=grace / 2)
            self.late = True
            if left:
                _, left = await asyncio.wait(left, timeout=grace / 2)
            for task in left:
                task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Say that this task has work, which is let end."""
        task = _this_task()
        self._busy[task] = True
        try:
            yield
        finally:
            self._busy[task] = False

    @contextlib.contextmanager
    def waiting(self, most: int) -> Iterator[None]:
        """Say that this task waits: another works in its place, up to `most` times the concurrency."""
        self._waiting += 1
        if not self._closing and len(self._busy) < most * self._concurrency:
            self._add()
        try:
            yield
        finally:
            self._waiting -= 1

    def _add(self) -> None:
        self._busy[asyncio.create_task(self._run(), name=f"dispatch-{len(self._busy)}")] = False

    async def _run(self) -> None:
        while not self._closing:
            if len(self._busy) - self._waiting > self._concurrency:
                # It stood in for one that waited.
                del self._busy[_this_task()]
                return
            await self._work()


def _this_task() -> "asyncio.Task[None]":
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - we are running in one
    return task
