"""Notes what endpoints have taken: one statement for all that came in while the one before was under way."""

import asyncio
from typing import Final

from services.conversation import event_deliveries
from services.conversation.event_deliveries import Claimed, Tried
from services.kit.cancelling import cancel_all
from services.ledger.database import Database

_MOST: Final = 500

_Taken = tuple[Claimed, Tried]


class DeliverySettler:
    """Settles deliveries that were taken, those of many requests together."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[tuple[_Taken, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def settle(self, claimed: Claimed, tried: Tried) -> None:
        """Return when it is committed; raises UnavailableError."""
        settled = asyncio.get_running_loop().create_future()
        self._waiting.append(((claimed, tried), settled))
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="delivery-settler")
        await settled

    async def close(self) -> None:
        """Stop; what is not settled is posted again."""
        if self._task is not None:
            await cancel_all([self._task])

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._settle_next()
        finally:
            self._task = None

    async def _settle_next(self) -> None:
        batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
        error: BaseException | None = None
        try:
            async with self._database.hot() as connection:
                await event_deliveries.settle_delivered(connection, [taken for taken, _ in batch])
        except Exception as found:  # noqa: BLE001 - it is for those who wait
            error = found
        for _, settled in batch:
            if settled.done():
                continue
            if error is None:
                settled.set_result(None)
            else:
                settled.set_exception(error)
