"""Callbacks that wait for their time: several processes deliver from one queue, each at least once."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from services.providers.simulator_database import SimulatorDatabase
from services.providers.simulator_plan import BUNDLE_SIZE, Bundle

# Bundles in due order until they fill a request. One that was refused before travels alone (it counts
# as a full request), so that it cannot spoil its neighbours' delivery for ever.
_CLAIMABLE: Final = """
SELECT json_group_array(id), group_concat(events, ','), sum(event_count), max(tries) FROM (
    SELECT id, events, event_count, tries FROM callbacks WHERE id IN (
        SELECT id FROM (
            SELECT
                id,
                sum(CASE WHEN tries > 0 THEN :size ELSE event_count END) OVER (ORDER BY due_ms, id) AS total
            FROM (
                SELECT id, due_ms, event_count, tries FROM callbacks
                WHERE due_ms <= :now AND hold_ms <= :now ORDER BY due_ms, id LIMIT :size
            )
        ) WHERE total <= :size
    ) ORDER BY due_ms, id
)
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """Callbacks that this process may deliver until its hold on them ends."""

    ids: str
    body: bytes
    event_count: int
    # Times the receiver refused them before.
    tries: int


class CallbackQueue:
    """The pending callbacks of one file."""

    def __init__(self, database: SimulatorDatabase) -> None:
        self._database = database

    def add(self, bundles: Sequence[Bundle]) -> None:
        """Enter callbacks; joins the transaction under way."""
        for bundle in bundles:
            self._database.writer.execute(
                "INSERT INTO callbacks (due_ms, event_count, events) VALUES (?, ?, ?)",
                (bundle.due_ms, bundle.event_count, bundle.events),
            )

    def adopt(self) -> None:
        """Give free what processes that have died had claimed, at the start of this one."""
        with self._database.transaction() as writer:
            row = writer.execute(
                "SELECT json_group_array(DISTINCT owner) FROM callbacks WHERE owner > 0"
            ).fetchone()
            dead = [owner for owner in orjson.loads(row[0]) if not _lives(owner)]
            writer.execute(
                "UPDATE callbacks SET hold_ms = 0, owner = 0 WHERE owner IN (SELECT value FROM json_each(?))",
                (orjson.dumps(dead).decode(),),
            )

    def claim(self, hold: float) -> Claim | float | None:
        """Take the callbacks that are due, for `hold` seconds and up to one request's worth.

        Without any, return the seconds until the next, or None when nothing is pending.
        """
        writer, now = self._database.writer, _now_ms()
        next_due = writer.execute("SELECT min(due_ms) FROM callbacks WHERE hold_ms <= ?", (now,)).fetchone()[
            0
        ]
        if next_due is None:
            return None
        if next_due > now:
            return float(next_due - now) / 1000
        with self._database.transaction():
            ids, events, count, tries = writer.execute(
                _CLAIMABLE, {"now": now, "size": BUNDLE_SIZE}
            ).fetchone()
            if not count:  # another process was faster
                return 0.01
            writer.execute(
                "UPDATE callbacks SET hold_ms = ?, owner = ? WHERE id IN (SELECT value FROM json_each(?))",
                (now + int(hold * 1000), os.getpid(), ids),
            )
        return Claim(ids, b"[" + events.encode() + b"]", count, tries)

    def finish(self, claim: Claim) -> None:
        """Forget callbacks that were delivered."""
        self._database.writer.execute(
            "DELETE FROM callbacks WHERE id IN (SELECT value FROM json_each(?))", (claim.ids,)
        )

    def postpone(self, claim: Claim, delay: float, *, refused: bool) -> None:
        """Give callbacks back, for anyone to deliver after `delay` seconds."""
        self._database.writer.execute(
            "UPDATE callbacks SET hold_ms = ?, owner = 0, tries = tries + ? "
            "WHERE id IN (SELECT value FROM json_each(?))",
            (_now_ms() + int(delay * 1000), int(refused), claim.ids),
        )

    def release(self) -> None:
        """Give free all that this process has claimed, at its end."""
        self._database.writer.execute(
            "UPDATE callbacks SET hold_ms = 0, owner = 0 WHERE owner = ?", (os.getpid(),)
        )

    def pending(self) -> int:
        """Return the number of events that wait to be delivered."""
        with self._database.reader() as reader:
            row = reader.execute("SELECT coalesce(sum(event_count), 0) FROM callbacks").fetchone()
        return int(row[0])


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _lives(pid: int) -> bool:
    """Tell whether another process has this id. A wrong yes costs the rest of a hold, a wrong no a repeat.

    A holder of our own id has died: in containers a process often gets its predecessor's.
    """
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
