"""Keeps the order of conversations among several dispatchers: waits for what others have under way."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Final

from services.dispatch.order import Part
from services.kit.errors import UnavailableError
from services.ledger.claims import ClaimedMessage
from services.ledger.database import Database
from services.ledger.predecessors import find_predecessors, still_there

# Seconds that a message under way is waited for: longer than providers take. And one that nobody has
# claimed: it is in the queue of another dispatcher, or put off by a rate, which holds up none but itself.
_LONGEST: Final = 60.0
_UNCLAIMED: Final = 30.0
_UNCLAIMED_WITH_RATES: Final = 1.0
# Seconds between looks, at first and at most.
_FIRST_LOOK: Final = 0.01
_LONGEST_LOOK: Final = 0.1


class Company:
    """Asks the ledger what has to leave before, where there is more than one dispatcher.

    A conversation waits for earlier messages of its own and for nothing else, so that no two dispatchers
    wait for each other. `clear` tells whether nothing may be put off: no rate, no breaker that is open.
    """

    def __init__(self, database: Database, *, present: Callable[[], bool], clear: Callable[[], bool]) -> None:
        self._database = database
        self._present = present
        self._clear = clear

    @property
    def present(self) -> bool:
        """Tell whether there is another dispatcher."""
        return self._present()

    async def before(self, messages: Sequence[ClaimedMessage]) -> dict[str, set[str]]:
        """Return what must leave before these, by conversation."""
        firsts: dict[str, ClaimedMessage] = {}
        for message in messages:
            firsts.setdefault(message.conversation_id, message)
        if not firsts:
            return {}
        async with self._database.hot() as connection:
            found = await find_predecessors(connection, list(firsts.values()))
        # Where clocks differ, what has the lower id may be the later one: it must not wait for itself.
        own = {message.id for message in messages}
        return {conversation: rest for conversation, ids in found.items() if (rest := ids - own)}

    async def next(self, parts: list[Part]) -> list[Part]:
        """Take out those that may leave now, once there are any."""
        pause = _FIRST_LOOK
        while True:
            waited = time.monotonic() - parts[0].since
            left = {message_id for part in parts for message_id in part.elsewhere}
            if waited < _LONGEST:
                patient = waited < (_UNCLAIMED if self._clear() else _UNCLAIMED_WITH_RATES)
                with contextlib.suppress(UnavailableError):
                    async with self._database.hot() as connection:
                        left = await still_there(connection, left, unclaimed=patient)
            else:
                left.clear()
            free = [part for part in parts if left.isdisjoint(part.elsewhere)]
            if free:
                parts[:] = [part for part in parts if not left.isdisjoint(part.elsewhere)]
                return free
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_LOOK)
