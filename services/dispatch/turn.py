"""Whose turn it is to take work."""

import asyncio
from typing import Self


class Turn:
    """The right to take work, which one slot has at a time until it has claimed what it took.

    What comes in meanwhile is claimed together by the next: the batches grow with the load.
    """

    def __init__(self, lock: asyncio.Lock) -> None:
        self._lock = lock
        self._had = False

    async def __aenter__(self) -> Self:
        await self._lock.acquire()
        self._had = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Let another slot take work."""
        if self._had:
            self._had = False
            self._lock.release()
