"""Keeps hold of the envelopes that a dispatcher works on."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence

from services.kit.errors import UnavailableError
from services.kit.logs import get_logger
from services.ledger.claims import renew
from services.ledger.database import Database

_log = get_logger(__name__)


class Leases:
    """Renews the leases of envelopes under way, three times in the `seconds` one lasts."""

    def __init__(self, database: Database, *, seconds: float) -> None:
        self._database = database
        self._seconds = seconds
        # Envelopes, with the owner key they were claimed under.
        self._held: dict[str, int] = {}
        self._renewer: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to renew."""
        self._renewer = asyncio.create_task(self._renew(), name="dispatch-renew")

    def close(self) -> None:
        """Renew no more."""
        if self._renewer is not None:
            self._renewer.cancel()

    @contextlib.contextmanager
    def holding(self, outbox_ids: Sequence[str], owner: int) -> Iterator[None]:
        """Have the leases of envelopes renewed."""
        self._held.update(dict.fromkeys(outbox_ids, owner))
        try:
            yield
        finally:
            for outbox_id in outbox_ids:
                self._held.pop(outbox_id, None)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._seconds / 3)
            held = dict(self._held)
            try:
                for owner in set(held.values()):
                    async with self._database.hot() as connection:
                        await renew(
                            connection,
                            [outbox_id for outbox_id, key in held.items() if key == owner],
                            owner=owner,
                            lease=self._seconds,
                        )
            except UnavailableError:
                _log.warning("leases_not_renewed", envelopes=len(held))
