"""Keeps hold of the envelopes that a dispatcher works on."""

import asyncio
import contextlib
import time
from collections.abc import Collection, Iterator

from services.kit.background import in_background
from services.kit.errors import UnavailableError
from services.kit.logs import get_logger
from services.ledger.claims import renew
from services.ledger.database import Database

_log = get_logger(__name__)


# Where there is one that goes on while the machine sleeps, as that of PostgreSQL elsewhere does.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def lease_time() -> float:
    """Return the seconds on the clock by which the ends of leases are known here."""
    return time.clock_gettime(_CLOCK)


class Lease:
    """The hold that one batch has of its envelopes, known to last until a moment on our own clock.

    A process that was stopped, or could not renew for long, must find out before it sends: others may have
    taken its envelopes over.
    """

    def __init__(self, outbox_ids: Collection[str], owner: int) -> None:
        self.outbox_ids = frozenset(outbox_ids)
        self.owner = owner
        self._ends_at = 0.0

    @property
    def holds(self) -> bool:
        """Tell whether the envelopes are surely ours."""
        return lease_time() < self._ends_at

    def begin(self, claimed: Collection[str], *, ends_at: float) -> None:
        """Note which envelopes were claimed and when that ends, by `lease_time`."""
        self.outbox_ids = frozenset(claimed)
        self._ends_at = ends_at

    def renewed(self, kept: Collection[str], *, ends_at: float) -> None:
        """Note which envelopes were renewed; the lease goes on if it is all of them."""
        if self.outbox_ids.issubset(kept):
            self._ends_at = ends_at


class Leases:
    """Renews the leases of envelopes under way, three times in the `seconds` one lasts."""

    def __init__(self, database: Database, *, seconds: float) -> None:
        self._database = database
        self._seconds = seconds
        # One for each batch: an envelope that is delivered twice is in two, and held by one of them.
        self._held: set[Lease] = set()
        self._renewer: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to renew."""
        self._renewer = in_background("renew-leases", self._renew_all)

    def close(self) -> None:
        """Renew no more."""
        if self._renewer is not None:
            self._renewer.cancel()

    @contextlib.contextmanager
    def holding(self, outbox_ids: Collection[str], owner: int) -> Iterator[Lease]:
        """Have the leases of envelopes renewed."""
        lease = Lease(outbox_ids, owner)
        self._held.add(lease)
        try:
            yield lease
        finally:
            self._held.discard(lease)

    async def confirm(self, lease: Lease) -> None:
        """Renew a lease that may have ended; it does not hold afterwards when others have taken over."""
        if not lease.holds:
            await self._renew([lease])

    async def _renew_all(self) -> None:
        while True:
            await asyncio.sleep(self._seconds / 3)
            held = tuple(self._held)
            try:
                for owner in {lease.owner for lease in held}:
                    await self._renew([lease for lease in held if lease.owner == owner])
            except UnavailableError:
                _log.warning("leases_not_renewed", batches=len(held))

    async def _renew(self, leases: Collection[Lease]) -> None:
        """Renew leases of one owner."""
        ends_at = lease_time() + self._seconds
        async with self._database.hot() as connection:
            kept = await renew(
                connection,
                frozenset().union(*(lease.outbox_ids for lease in leases)),
                owner=next(iter(leases)).owner,
                lease=self._seconds,
            )
        for lease in leases:
            lease.renewed(kept, ends_at=ends_at)
