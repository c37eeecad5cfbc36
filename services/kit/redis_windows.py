"""Counts of the sliding window in Redis, which several processes share."""

import asyncio
from collections.abc import Awaitable, Sequence
from hashlib import blake2s
from typing import Final, TypeVar

from limits.aio.storage import RedisStorage
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from services.kit.sliding_window import Quota, StorageAwayError, Window

_T = TypeVar("_T")

# Seconds an operation may take: longer than any healthy server needs, shorter than a caller notices.
_TIMEOUT: Final = 0.5
_CONNECTIONS: Final = 64
# Others may take between looking and taking; then the rest is looked at again.
_ATTEMPTS: Final = 4


class RedisWindows:
    """Counts in Redis. Each taking is one script there, so that processes cannot come between.

    Subjects are stored as digests: a phone number is nobody's business in Redis.
    """

    def __init__(self, url: str, period: int) -> None:
        self._period = period
        self._pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            # Whatever an operation waits for, _answered ends it.
            socket_timeout=None,
            retry=Retry(NoBackoff(), 0),
        )
        self._storage = RedisStorage(
            url,
            implementation="redispy",
            key_prefix="posthouse",
            connection_pool=self._pool,  # type: ignore[arg-type] # its options are typed too narrowly
        )

    async def take(self, quotas: Sequence[Quota], amount: int) -> tuple[int, list[Window]]:
        """Take up to `amount` of all quotas alike; return how much was had, and what they stand at."""
        return await self._answered(self._take(quotas, amount))

    async def look(self, quotas: Sequence[Quota]) -> list[Window]:
        """Return what quotas stand at."""
        return await self._answered(self._look_all(quotas))

    async def give_back(self, quotas: Sequence[Quota], amount: int) -> None:
        """Return what was taken and not used."""
        await self._answered(self._return(quotas, amount))

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.disconnect()

    async def _answered(self, operation: Awaitable[_T]) -> _T:
        try:
            async with asyncio.timeout(_TIMEOUT):
                return await operation
        except (RedisError, OSError, TimeoutError) as error:
            raise StorageAwayError(type(error).__name__) from error

    async def _take(self, quotas: Sequence[Quota], amount: int) -> tuple[int, list[Window]]:
        had = amount
        for position, quota in enumerate(quotas):
            got = await self._take_one(quota, had)
            if got < had:
                await self._return(quotas[:position], had - got)
                had = got
            if not had:
                break
        return had, await self._look_all(quotas)

    async def _take_one(self, quota: Quota, amount: int) -> int:
        for _ in range(_ATTEMPTS):
            if await self._acquire(quota, amount):
                return amount
            amount = min(amount, quota.limit - (await self._look(quota)).used(self._period))
            if amount <= 0:
                break
        return 0

    async def _return(self, quotas: Sequence[Quota], amount: int) -> None:
        # A negative amount is always had, and the script adds it to the current window.
        for quota in quotas:
            await self._acquire(quota, -amount)

    async def _acquire(self, quota: Quota, amount: int) -> bool:
        return await self._storage.acquire_sliding_window_entry(
            _key(quota), quota.limit, self._period, amount
        )

    async def _look_all(self, quotas: Sequence[Quota]) -> list[Window]:
        return [await self._look(quota) for quota in quotas]

    async def _look(self, quota: Quota) -> Window:
        previous, _, current, life = await self._storage.get_sliding_window(_key(quota), self._period)
        # The current count lives for two periods: its own and the next, in which it is the previous one.
        return Window(previous, max(0, current), max(0.0, life - self._period) or float(self._period))


def _key(quota: Quota) -> str:
    digest = blake2s(quota.subject.encode(), digest_size=16).hexdigest()
    return f"{quota.scope}/{quota.limit}/{digest}"
