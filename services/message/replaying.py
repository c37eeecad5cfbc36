"""Replays kept webhooks by hand: after a fault of ours in reading them, or a wrong key that refused them."""

from datetime import timedelta

from services.kit.errors import InvalidRequestError, PreconditionError
from services.ledger.database import Database
from services.ledger.receipts import WebhookLog
from services.ledger.webhook_logs import get_log, note_replay
from services.message.webhooks import WebhookIngester


class Replayer:
    """Applies kept requests again. What has been applied before is known, and not done twice.

    `memory` is for how many seconds that is so: older entries are not replayed.
    """

    def __init__(self, database: Database, ingester: WebhookIngester, *, memory: float) -> None:
        self._database = database
        self._ingester = ingester
        self._memory = timedelta(seconds=memory)

    async def replay(self, log_id: str, *, trust_forged: bool = False) -> WebhookLog:
        """Apply an entry again and return it with what has come of it.

        Raises InvalidRequestError when there is none, PreconditionError when it may not be replayed:
        refused as forged unless `trust_forged`, kept in part only, or too old.
        """
        async with self._database.read() as connection:
            kept = await get_log(connection, log_id)
        if kept is None:
            raise InvalidRequestError.field("webhook_log_id", f"{log_id} names no entry")
        if kept.verdict == "forged" and not trust_forged:
            raise PreconditionError(f"{log_id} was refused as forged")
        if not kept.whole:
            raise PreconditionError(f"of {log_id} only a part was kept")
        if self._database.clock.now() - kept.create_time > self._memory:
            raise PreconditionError(f"{log_id} is older than the memory of what was applied")
        log = await self._ingester.replay(kept)
        async with self._database.write() as connection:
            await note_replay(connection, log)
        return log
