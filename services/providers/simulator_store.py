"""What the simulator remembers: the messages it accepted, and how it was told to behave."""

import contextlib
import sqlite3
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import orjson

from services.providers.base import Absent, CannotTell, Found, LookupResult
from services.providers.simulator_database import SimulatorDatabase
from services.providers.simulator_plan import Bundle
from services.providers.simulator_profile import SimulatorProfile, profile_from
from services.providers.simulator_queue import CallbackQueue

_PRUNE_EVERY: Final = 10_000
_PRUNE_MOST: Final = 50_000

# Two processes may commit in another order than they accepted in, by no more than this.
_SKEW_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Remembered:
    """A message the simulator accepted. `accept_ms` is Unix time in milliseconds."""

    message_id: str
    attempt: int
    provider_message_id: str
    channel: str
    sender: str
    recipient: str
    body_sha256: str
    accept_ms: int


class SimulatorStore:
    """The simulator's memory, which outlives its process and which several processes share.

    Another process reads it without `open`. At least the last `capacity` accepted messages are
    remembered. Calls block; one thread at a time.
    """

    def __init__(self, path: Path | str, *, capacity: int = 1_000_000) -> None:
        self._database = SimulatorDatabase(path)
        self.callbacks = CallbackQueue(self._database)
        self._capacity = capacity
        self._added = 0

    def open(self) -> Self:
        """Begin to write; take over callbacks of processes that have died."""
        self._database.open()
        self.callbacks.adopt()
        return self

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def add(self, accepted: Sequence[Sequence[Any]], bundles: Sequence[Bundle]) -> None:
        """Remember accepted messages (rows of Remembered's fields) and their callbacks, all or none.

        Raises sqlite3.Error when nothing of it was stored.
        """
        with self._database.transaction() as writer:
            writer.execute(
                "INSERT INTO accepted (message_id, details) SELECT value->>0, value FROM json_each(?)",
                (orjson.dumps(accepted).decode(),),
            )
            self.callbacks.add(bundles)
        self._added += len(accepted)
        if self._added >= _PRUNE_EVERY:
            self._added = 0
            with contextlib.suppress(sqlite3.Error):  # the next time will do
                self._prune()

    def count_repeats(self, channel_of: Mapping[int, str], counts: Mapping[int, int]) -> dict[int, int]:
        """Add to how often each fingerprint was seen, and return how often it was before."""
        with self._database.transaction() as writer:
            keys = orjson.dumps(list(counts)).decode()
            row = writer.execute(
                "SELECT json_group_array(json_array(fingerprint, count)) FROM repeats "
                "WHERE fingerprint IN (SELECT value FROM json_each(?))",
                (keys,),
            ).fetchone()
            before = dict.fromkeys(counts, 0) | dict(orjson.loads(row[0]))
            rows = [[key, channel_of[key], before[key] + count] for key, count in counts.items()]
            writer.execute(
                "INSERT OR REPLACE INTO repeats SELECT value->>0, value->>1, value->>2 FROM json_each(?)",
                (orjson.dumps(rows).decode(),),
            )
        return before

    def configure(self, profiles: Mapping[str, SimulatorProfile]) -> None:
        """Begin with these profiles, unless they were begun with before: then changes since hold on."""
        text = orjson.dumps(dict(sorted(profiles.items()))).decode()
        with self._database.transaction() as writer:
            row = writer.execute("SELECT profiles FROM configured").fetchone()
            if row is None or row[0] != text:
                writer.execute("INSERT OR REPLACE INTO configured VALUES (1, ?)", (text,))
                writer.execute("DELETE FROM profiles")
                self._write_profiles(profiles)
            else:
                writer.execute(
                    "INSERT OR IGNORE INTO profiles SELECT key, value FROM json_each(?)",
                    (text,),
                )

    def set_profiles(self, profiles: Mapping[str, SimulatorProfile]) -> None:
        """Change profiles for all processes; seeded runs of these channels begin anew."""
        with self._database.transaction():
            self._write_profiles(profiles)

    def profiles(self) -> dict[str, SimulatorProfile]:
        """Return the profile of each channel."""
        row = self._database.writer.execute(
            "SELECT json_group_object(channel, json(profile)) FROM profiles"
        ).fetchone()
        return {channel: profile_from(channel, values) for channel, values in orjson.loads(row[0]).items()}

    def find(self, messages: Sequence[tuple[str, int]]) -> list[LookupResult]:
        """Tell which messages, given by id and attempt, were accepted.

        Absence is proved unless the message may have been among the forgotten ones.
        """
        with self._database.reader() as reader:
            found: dict[tuple[str, int], LookupResult] = {
                (row.message_id, row.attempt): Found(row.provider_message_id)
                for row in self._remembered(reader, [message_id for message_id, _ in messages])
            }
            oldest = reader.execute("SELECT id, details->>7 FROM accepted ORDER BY id LIMIT 1").fetchone()
        horizon = 0 if oldest is None or oldest[0] == 1 else int(oldest[1])
        return [
            found.get(message) or (Absent() if _made_after(message[0], horizon) else CannotTell())
            for message in messages
        ]

    def seen(self, message_ids: Sequence[str]) -> dict[str, int]:
        """Return how often each message was accepted: more than 1 is a message sent twice."""
        counts = dict.fromkeys(message_ids, 0)
        for row in self.remembered(message_ids):
            counts[row.message_id] += 1
        return counts

    def remembered(self, message_ids: Sequence[str]) -> list[Remembered]:
        """Return what is known of messages, in the order of acceptance."""
        with self._database.reader() as reader:
            return self._remembered(reader, message_ids)

    def pending(self) -> int:
        """Return the number of callbacks that wait to be delivered."""
        return self.callbacks.pending()

    @staticmethod
    def _remembered(reader: sqlite3.Connection, message_ids: Sequence[str]) -> list[Remembered]:
        row = reader.execute(
            "SELECT json_group_array(json(details)) FROM (SELECT details FROM accepted "
            "WHERE message_id IN (SELECT value FROM json_each(?)) ORDER BY id)",
            (orjson.dumps(list(message_ids)).decode(),),
        ).fetchone()
        return [Remembered(*details) for details in orjson.loads(row[0])]

    def _write_profiles(self, profiles: Mapping[str, SimulatorProfile]) -> None:
        writer = self._database.writer
        for channel, profile in profiles.items():
            writer.execute(
                "INSERT OR REPLACE INTO profiles VALUES (?, ?)", (channel, profile.to_json().decode())
            )
            writer.execute("DELETE FROM repeats WHERE channel = ?", (channel,))

    def _prune(self) -> None:
        """Forget the oldest messages beyond the capacity, a part at a time."""
        with self._database.transaction() as writer:
            first, last = writer.execute("SELECT min(id), max(id) FROM accepted").fetchone()
            writer.execute(
                "DELETE FROM accepted WHERE id < ?", (min(last - self._capacity + 1, first + _PRUNE_MOST),)
            )


def _made_after(message_id: str, horizon_ms: int) -> bool:
    """Tell whether a UUIDv7 was made after a time, and so cannot have been sent before it."""
    if not horizon_ms:
        return True
    try:
        made = uuid.UUID(message_id)
    except ValueError:
        return False
    return made.version == 7 and made.int >> 80 > horizon_ms + _SKEW_MS  # noqa: PLR2004 - version 7 has the time in front
