"""The stack under test: `posthouse up` in a folder of its own, with what it costs by process."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg

from benchmarks.payloads import TWILIO_TOKEN
from benchmarks.results import Load
from cli.datadir import DataDir, StackState
from cli.embedded.spawn import Process, kill, last_line, spawn
from services.kit.ids import first_id_at
from tests.ports import free_ports

# The processes whose cost is shown.
PROCESSES = ("message", "dispatch", "conversation", "gateway", "postgres", "nats")

_START, _POLL = 90.0, 0.1
_DRAIN, _DRAIN_POLL = 600.0, 0.1

_COUNT_UNDELIVERED = "SELECT count(*) FROM messages WHERE id >= %s AND state <> 'delivered'"
_ALL_INDEXED = """
SELECT NOT EXISTS (
  SELECT FROM messages WHERE id > (SELECT position FROM search_progress WHERE name = 'newest')
)
"""
_FIRST_UNDELIVERED = (
    "SELECT m.id::text FROM messages m WHERE m.id >= %s AND state <> 'delivered' ORDER BY m.id LIMIT 1"
)

# No contact replies, or every send would make two messages.
_SETTINGS = {
    "TWILIO_AUTH_TOKEN": TWILIO_TOKEN,
    "POSTHOUSE_SIMULATOR_PROFILE": '{"reply_rate": 0}',
    "POSTHOUSE_LOG_LEVEL": "warning",
}


class StartFailedError(Exception):
    """Something the benchmark needs did not start. The text says what."""


class BenchStack:
    """A running stack."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self._data = folder / "data"
        # Messages from this one on are waited for.
        self.first_id = first_id_at(datetime.fromtimestamp(0, UTC))
        self._log = folder / "up.log"
        self.grpc_port, self.http_port = free_ports(6), free_ports(1)
        command = [sys.executable, "-P", "-m", "cli.main", "up", "--data-dir", str(self._data)]
        command += ["--grpc-port", str(self.grpc_port), "--http-port", str(self.http_port)]
        self._process = spawn(command, log=self._log, env=environment({**_SETTINGS, **settings}), cwd=folder)
        self._await_health()

    @property
    def state(self) -> StackState:
        """Return what the running stack tells other commands."""
        state = DataDir(self._data).read_state()
        if state is None:
            raise StartFailedError(f"the stack has ended: {last_line(self._log)}")
        return state

    def database(self) -> psycopg.Connection[Any]:
        """Return a connection to the ledger."""
        return psycopg.connect(self.state.database_url, autocommit=True)

    def set_synchronous_commit(self, value: str) -> None:
        """Change how commits are made durable, for every session from now on."""
        with self.database() as connection:
            connection.execute(f"ALTER DATABASE posthouse SET synchronous_commit = {value}".encode())
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = 'posthouse' AND pid <> pg_backend_pid()"
            )
        with self.database() as connection:
            row = connection.execute("SHOW synchronous_commit").fetchone()
            if row != (value,):
                raise StartFailedError(f"synchronous_commit is {row}, not {value}")
        # Every process finds out by itself that its sessions are gone.
        time.sleep(3)
        self._await_health()

    def cpu_seconds(self) -> dict[str, float]:
        """Return the CPU time each process has used, with what it has started."""
        return {name: _cpu_of(self.state.children[name][0]) for name in PROCESSES}

    @contextlib.contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Hold a process still."""
        pid = self.state.children[name][0]
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def memory(self) -> dict[str, float]:
        """Return the megabytes that each process has to itself, with what it has started."""
        return {name: _memory_of(self.state.children[name][0]) for name in PROCESSES}

    def disregard(self) -> None:
        """Leave the messages that are in the ledger out of what is waited for from now on."""
        self.first_id = first_id_at(datetime.now(UTC) + timedelta(milliseconds=1))
        time.sleep(0.002)

    def undelivered(self) -> int:
        """Return the number of messages that have not arrived yet."""
        with self.database() as connection:
            row = connection.execute(_COUNT_UNDELIVERED, [self.first_id]).fetchone()
        return int(row[0]) if row else 0

    def drain(self) -> None:
        """Wait until every message is delivered."""
        deadline = time.monotonic() + _DRAIN
        with self.database() as connection:
            # Along the index: statistics know nothing of rows this new, and all of them might be fetched and
            # sorted. What has arrived is not looked at again: messages arrive more or less in their order.
            connection.execute("SET enable_bitmapscan = off")
            while found := connection.execute(_FIRST_UNDELIVERED, [self.first_id]).fetchone():
                self.first_id = found[0]
                if time.monotonic() > deadline:
                    raise StartFailedError(f"{self.undelivered()} messages are not delivered")
                time.sleep(_DRAIN_POLL)

    def settle(self) -> None:
        """Wait until search knows every message: indexing what one load has left would slow the next down."""
        deadline = time.monotonic() + _DRAIN
        with self.database() as connection:
            while connection.execute(_ALL_INDEXED).fetchone() != (True,):
                if time.monotonic() > deadline:
                    raise StartFailedError("search does not come to know every message")
                time.sleep(_DRAIN_POLL)

    def stop(self) -> None:
        """Stop all of it."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            kill(self._process)

    def _await_health(self) -> None:
        url = f"http://127.0.0.1:{self.http_port}/health"
        deadline = time.monotonic() + _START
        while True:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise StartFailedError(f"the stack does not start: {last_line(self._log)}")
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as response:
                if json.load(response)["status"] == "ok":
                    return
            time.sleep(_POLL)


@contextlib.contextmanager
def running_stack(settings: Mapping[str, str] | None = None) -> Iterator[BenchStack]:
    """Yield a stack on a folder that is deleted afterwards; `settings` are those beside the benchmarks'."""
    folder = Path(tempfile.mkdtemp(prefix="posthouse-bench-"))
    stack = None
    try:
        stack = BenchStack(folder, settings or {})
        yield stack
    finally:
        if stack is not None:
            stack.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def running_module(module: str, *arguments: object) -> Iterator[int]:
    """Run a module that serves on the port given as its last argument; yield the port once it answers."""
    port = free_ports(1)
    process = _module(module, *arguments, port)
    try:
        _await_port(process, port)
        yield port
    finally:
        process.terminate()
        process.wait()


def run_load(module: str, *arguments: object) -> Load:
    """Run a load client to its end and return what it measured."""
    process = _module(module, *arguments, stdout=subprocess.PIPE)
    output, _ = process.communicate()
    if process.returncode:
        raise StartFailedError(f"{module} ended with exit code {process.returncode}")
    return Load.from_json(output.decode().splitlines()[-1])


def environment(settings: dict[str, str]) -> dict[str, str]:
    """Return the environment without Posthouse's settings but these."""
    own = ("POSTHOUSE_", "RATE_LIMIT_", "DATABASE_URL", "NATS_URL")
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(own)}
    return {**kept, **settings}


def _module(module: str, *arguments: object, stdout: int | None = None) -> Process:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.Popen(command, stdout=stdout)  # noqa: S603 - our own modules


def _await_port(process: Process, port: int) -> None:
    deadline = time.monotonic() + _START
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(_POLL)
    raise StartFailedError(f"nothing answers on port {port}")


def _memory_of(pid: int) -> float:
    """Return what a process and those below it do not share with others, in megabytes."""
    process = psutil.Process(pid)
    total = 0
    for member in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            total += member.memory_full_info().uss
    return total / 1e6


def _cpu_of(pid: int) -> float:
    """Return the seconds a process and those below it have used, the dead and reaped included."""
    process = psutil.Process(pid)
    total = 0.0
    for member in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = member.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total
