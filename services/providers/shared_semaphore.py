"""How many requests a provider has under way, of what all dispatchers together may have."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Self


class SharedSemaphore:
    """A semaphore whose size is one dispatcher's share of `most`, never below one, as their number changes.

    `dispatchers` tells of how many this is one. First come, first served.
    """

    def __init__(self, most: int) -> None:
        self.dispatchers: Callable[[], int] = lambda: 1
        self._most = most
        self._under_way = 0
        self._waiters: deque[asyncio.Future[None]] = deque()

    @property
    def size(self) -> int:
        """Return how many may be under way here now."""
        return max(1, self._most // self.dispatchers())

    def part_of(self, batch_size: int) -> int:
        """Return the part of a batch meant for all the slots that our share of them is made for."""
        return max(1, batch_size * self.size // self._most)

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release()

    async def acquire(self) -> None:
        """Wait for a slot and take it."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._hand_out()
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release()
            else:
                with contextlib.suppress(ValueError):
                    self._waiters.remove(waiter)
            raise

    def release(self) -> None:
        """Give a slot back."""
        self._under_way -= 1
        self._hand_out()

    def _hand_out(self) -> None:
        size = self.size
        while self._waiters and self._under_way < size:
            waiter = self._waiters.popleft()
            if not waiter.done():
                self._under_way += 1
                waiter.set_result(None)
