"""The simulator's SQLite file: its tables, and how it is opened and written.

Writes survive the death of a process, not of the machine (`synchronous=OFF`): it plays a carrier for
tests and demos. Each call that touches many rows is one SQL statement over a JSON text: the sqlite3
module gives up the interpreter's lock at every step of a statement, and a busy event loop takes 5 ms
to return it, so a step per row would cost seconds per batch.
"""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS accepted (
    id INTEGER PRIMARY KEY,
    message_id TEXT NOT NULL,
    details TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS accepted_message ON accepted (message_id);
CREATE VIEW IF NOT EXISTS accepted_messages AS
SELECT id, message_id, details->>1 AS attempt, details->>2 AS provider_message_id, details->>3 AS channel,
    details->>4 AS sender, details->>5 AS recipient, details->>6 AS body_sha256, details->>7 AS accept_ms
FROM accepted;
CREATE TABLE IF NOT EXISTS callbacks (
    id INTEGER PRIMARY KEY,
    due_ms INTEGER NOT NULL,
    hold_ms INTEGER NOT NULL DEFAULT 0,
    owner INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0,
    event_count INTEGER NOT NULL,
    events TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS callbacks_due ON callbacks (due_ms);
CREATE TABLE IF NOT EXISTS repeats (
    fingerprint INTEGER PRIMARY KEY,
    channel TEXT NOT NULL,
    count INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS profiles (channel TEXT PRIMARY KEY, profile TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS configured (id INTEGER PRIMARY KEY CHECK (id = 1), profiles TEXT NOT NULL);
"""

_BUSY_SECONDS: Final = 10.0


class SimulatorDatabase:
    """The file. Reading needs nothing but its path; writing begins with `open`. One thread at a time."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._writer: sqlite3.Connection | None = None

    def open(self) -> None:
        """Open the file for writing, and create it where it is missing."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # It has addresses and bodies, which are for nobody else on the machine.
        self.path.touch(mode=0o600)
        self._writer = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, timeout=_BUSY_SECONDS
        )
        _enter_wal(self._writer)
        self._writer.execute("PRAGMA synchronous = OFF")
        with self.transaction() as writer:
            for statement in _SCHEMA.split(";\n"):
                writer.execute(statement)

    def close(self) -> None:
        """Close the file for writing."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    @property
    def writer(self) -> sqlite3.Connection:
        """Return the connection that writes; outside a transaction each statement is its own."""
        if self._writer is None:
            raise RuntimeError("the simulator's file is not open for writing")
        return self._writer

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit what the block writes, or nothing of it when it or the commit fails."""
        writer = self.writer
        writer.execute("BEGIN IMMEDIATE")
        try:
            yield writer
            writer.execute("COMMIT")
        except BaseException:
            if writer.in_transaction:
                writer.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def reader(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection that writes, or one that only reads for as long as it is needed."""
        if self._writer is not None:
            yield self._writer
            return
        uri = f"{self.path.absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)) as reader:
            yield reader


def _enter_wal(writer: sqlite3.Connection) -> None:
    """Switch to WAL; the first processes to open a file may collide there, and SQLite does not wait."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            writer.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
