"""How a child process is started so that it neither hears Ctrl-C nor outlives its parent."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import psutil

Process = subprocess.Popen[bytes]

_POLL = 0.02
_PR_SET_PDEATHSIG = 1
_MAX_LINE = 300


class StartError(Exception):
    """A server did not start. The text says why, in one line."""


class Server(Protocol):
    """A server that can be started, watched and stopped by whoever runs it."""

    name: str
    stop_signal: signal.Signals

    def launch(self) -> Process:
        """Start the server without waiting for it."""

    def is_ready(self) -> bool:
        """Tell whether the server answers."""


def spawn(
    command: Sequence[str],
    *,
    log: Path,
    death_signal: signal.Signals = signal.SIGTERM,
    user: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Process:
    """Start a child in a session of its own, its output appended to `log`.

    On Linux the child gets `death_signal` when the thread that called dies, so call from the main thread.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - our own programs, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # the terminal's Ctrl-C is for the supervisor, which stops in order
            user=user,
            group=_group_of(user),
            extra_groups=[] if user else None,
            env=env,
            cwd=cwd,
            # The hook makes two system calls and nothing else: safe between fork and exec.
            preexec_fn=_die_with_parent(death_signal),  # noqa: PLW1509
        )


def start(server: Server, *, timeout: float) -> Process:
    """Start a server and wait until it answers, or raise StartError."""
    process = server.launch()
    deadline = time.monotonic() + timeout
    while not server.is_ready():
        if process.poll() is not None:
            raise StartError(f"{server.name} stopped with exit code {process.returncode} while starting")
        if time.monotonic() > deadline:
            kill(process)
            raise StartError(f"{server.name} did not answer within {timeout:g} s")
        time.sleep(_POLL)
    return process


def stop(server: Server, process: Process, *, timeout: float) -> bool:
    """Ask a server to stop and wait; kill it and return False when it takes longer than `timeout` seconds."""
    if process.poll() is None:
        process.send_signal(server.stop_signal)
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        kill(process)
        return False
    return True


def kill(process: Process) -> None:
    """Kill a child and everything in its session, and reap it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_gone(processes: Iterable[psutil.Process], *, timeout: float) -> list[psutil.Process]:
    """Wait until processes that are not our children have ended; return those that have not."""
    deadline = time.monotonic() + timeout
    alive = [process for process in processes if is_alive(process)]
    while alive and time.monotonic() < deadline:
        time.sleep(_POLL)
        alive = [process for process in alive if is_alive(process)]
    return alive


def is_alive(process: psutil.Process) -> bool:
    """Tell whether a process still runs: one that only waits to be reaped does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def last_line(log: Path) -> str:
    """Return the last line of a log that says something, or nothing."""
    try:
        tail = log.read_bytes()[-4096:].decode(errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    return lines[-1][-_MAX_LINE:] if lines else ""


def _group_of(user: str | None) -> int | None:
    if user is None:
        return None
    import pwd  # noqa: PLC0415 - not to be had on Windows

    return pwd.getpwnam(user).pw_gid


def _die_with_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None  # an orphan is found and stopped by the next start
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def hook() -> None:
        # After the change of user, which would clear it; Popen runs hooks last.
        prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return hook
