"""The time by PostgreSQL's clock, which stored times are compared with: no process trusts its own."""

import time
from datetime import UTC, datetime, timedelta


class LedgerClock:
    """Carries on what PostgreSQL last said, by the monotonic clock. It is told every second, with the ping.

    Behind PostgreSQL by the time its answer took. Before the first answer it is the clock of the process.
    """

    def __init__(self) -> None:
        self._heard: tuple[datetime, float] | None = None

    def hear(self, moment: datetime) -> None:
        """Take note of what PostgreSQL has said just now."""
        self._heard = moment, time.monotonic()

    def now(self) -> datetime:
        """Return the time, in UTC."""
        if self._heard is None:
            return datetime.now(UTC)
        moment, heard_at = self._heard
        return moment + timedelta(seconds=time.monotonic() - heard_at)
