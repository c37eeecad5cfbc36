"""The time by PostgreSQL's clock, which stored times are compared with: no process trusts its own."""

import time
from datetime import UTC, datetime, timedelta
from typing import Final

from services.kit import metrics
from services.kit.logs import get_logger

_log = get_logger(__name__)

# Seconds by which clocks may differ before that is worth a line in the log.
_TOLERATED: Final = 5.0


class LedgerClock:
    """Carries on what PostgreSQL last said, by the monotonic clock. It is told every second, with the ping.

    Behind PostgreSQL by the time its answer took. Before the first answer it is the clock of the process.
    """

    def __init__(self) -> None:
        self._heard: tuple[datetime, float] | None = None
        self._differs = False

    def hear(self, moment: datetime) -> None:
        """Take note of what PostgreSQL has said just now."""
        self._heard = moment, time.monotonic()
        ahead = time.time() - moment.timestamp()
        metrics.CLOCK_AHEAD.set(ahead)
        differs = abs(ahead) > _TOLERATED
        if differs and not self._differs:
            _log.warning("clock_differs", seconds_ahead=round(ahead, 1))
        self._differs = differs

    def now(self) -> datetime:
        """Return the time, in UTC."""
        if self._heard is None:
            return datetime.now(UTC)
        moment, heard_at = self._heard
        return moment + timedelta(seconds=time.monotonic() - heard_at)
