"""How much is kept of requests that failed their proof: anybody may send them, and as many as they like."""

import time
from collections.abc import Callable
from typing import Final

from services.kit import metrics
from services.kit.logs import get_logger
from services.kit.sliding_window import MemoryWindows, Quota
from services.ledger.receipts import WebhookLog

_log = get_logger(__name__)

_HOUR: Final = 3600
# Bytes that an entry takes beside what its request says.
_AROUND: Final = 256


class Forgeries:
    """Tells which forged requests are kept: of each provider `hourly_bytes` within any hour, counted here."""

    def __init__(self, hourly_bytes: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._hourly_bytes = hourly_bytes
        self._windows = MemoryWindows(_HOUR, clock=clock)
        # Providers of which the last one was not kept; it is logged once for each run of them.
        self._full: set[str] = set()

    async def admit(self, log: WebhookLog) -> bool:
        """Tell whether an entry may be kept; one that may not is counted."""
        size = _AROUND + len(log.url) + len(log.headers) + len(log.body)
        quotas = [Quota("forged", log.provider, self._hourly_bytes)]
        had, _ = await self._windows.take(quotas, size)
        if had == size:
            self._full.discard(log.provider)
            _log.warning("webhook_forged", provider=log.provider, webhook_log_id=log.id)
            return True
        await self._windows.give_back(quotas, had)
        metrics.WEBHOOKS_NOT_KEPT.labels(log.provider).inc()
        if log.provider not in self._full:
            self._full.add(log.provider)
            _log.warning(
                "webhooks_forged_not_kept", provider=log.provider, setting="POSTHOUSE_WEBHOOK_FORGED_BYTES"
            )
        return False
