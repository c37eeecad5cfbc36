"""The folder of an embedded stack: its lock, its state for other commands, its secret."""

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

import psutil

from cli.embedded.spawn import is_alive, wait_gone

_LOCK = "posthouse.lock"
_STATE = "posthouse.json"
_SECRET = "simulator.secret"  # noqa: S105 - the name of the file


class DataDirError(Exception):
    """The folder cannot be used. The text says why, in one line."""


@dataclass(frozen=True, slots=True)
class StackState:
    """What a running stack tells other commands: written by `up`, read by `demo` and the next `up`."""

    pid: int
    host: str
    http_port: int
    grpc_port: int
    # With their secrets; the file is for its owner alone.
    database_url: str
    nats_url: str
    # Name -> [process id, start time in seconds since 1970, which tells a process from a later namesake]
    children: dict[str, tuple[int, float]] = field(default_factory=dict)


class DataDir:
    """The data folder of one stack."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: IO[str] | None = None

    def acquire(self) -> None:
        """Take the folder for this process until it ends, or raise DataDirError."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / _LOCK).open("a+")
        except OSError as error:
            raise DataDirError(f"cannot use {self.path}: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise DataDirError(self._who_runs()) from None
        self._lock = lock

    def release(self) -> None:
        """Give the folder back; the state of the stack that ran goes with it."""
        (self.path / _STATE).unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def write_state(self, state: StackState) -> None:
        """Replace the state in one step."""
        fresh = self.path / f"{_STATE}.new"
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(state), file, indent=2)
        fresh.replace(self.path / _STATE)

    def read_state(self) -> StackState | None:
        """Return the state that the last `up` wrote, or None."""
        try:
            fields = json.loads((self.path / _STATE).read_text())
            fields["children"] = {name: (pid, started) for name, (pid, started) in fields["children"].items()}
            return StackState(**fields)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def secret(self) -> str:
        """Return the secret of this folder's simulator, made at the first call."""
        path = self.path / _SECRET
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(32))
        text = path.read_text().strip()
        if text:
            return text
        path.unlink()  # a crash between creating and writing
        return self.secret()

    def end_leftovers(self, *, grace: float, sparing: Collection[str] = ()) -> list[str]:
        """End children that outlived their supervisor; return their names. Call with the lock held."""
        state = self.read_state()
        if state is None:
            return []
        alive = {
            name: process
            for name, (pid, started) in state.children.items()
            if name not in sparing and (process := _same_process(pid, started)) is not None
        }
        for process in alive.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        for process in wait_gone(alive.values(), timeout=grace):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return list(alive)

    def _who_runs(self) -> str:
        # The other may only just be starting and not have written its state yet.
        for _ in range(20):
            state = self.read_state()
            if state is not None and psutil.pid_exists(state.pid):
                return (
                    f"already running on {self.path}: process {state.pid}, HTTP port {state.http_port}, "
                    f"gRPC ports {state.grpc_port}-{state.grpc_port + 2}"
                )
            time.sleep(0.05)
        return f"already running on {self.path}"


def start_time(pid: int) -> float:
    """Return when a process started, in seconds since 1970; 0 if there is none."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return 0.0


def _same_process(pid: int, started: float) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        # Clocks are adjusted now and then; a second is far less than what it takes to reuse an id.
        same = abs(process.create_time() - started) < 1.0
        return process if same and is_alive(process) else None
    except psutil.NoSuchProcess:
        return None
