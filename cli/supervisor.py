"""Keeps child processes running: starts them, restarts those that die, stops them in order."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cli.embedded.spawn import Process, StartError, kill, last_line
from cli.logfiles import rotate, trim
from services.kit.config import EXIT_WRONG_SETTING, WrongSettingError

_POLL = 0.05
_TRIM_EVERY = 10.0

# Seconds of the pauses between a death and the next start.
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0


@dataclass(slots=True)
class Backoff:
    """Seconds to wait before a child that has died is started again."""

    first: float = FIRST_PAUSE
    limit: float = LONGEST_PAUSE
    # A child that lived this long was well; its next death counts as the first.
    reset_after: float = 30.0
    _next: float = field(default=0.0, init=False)

    def after(self, lifetime: float) -> float:
        """Return the wait after a life of `lifetime` seconds."""
        delay = self.first if lifetime >= self.reset_after or not self._next else self._next
        self._next = min(self.limit, delay * 2)
        return delay


@dataclass(slots=True)
class Child:
    """One program to keep running."""

    name: str
    launch: Callable[[], Process]
    log: Path
    stop_signal: signal.Signals = signal.SIGTERM
    # What ends it when it does not stop; PostgreSQL has a way between asking and killing.
    hasten_signal: signal.Signals = signal.SIGKILL
    backoff: Backoff = field(default_factory=Backoff)
    process: Process | None = None
    deaths: int = 0
    start_time: float = 0.0
    due_time: float = 0.0

    @property
    def pid(self) -> int | None:
        """Return the process id while it runs."""
        return self.process.pid if self.process is not None else None


class Supervisor:
    """Runs children. It has no thread and no loop of its own: call `watch` a few times a second."""

    def __init__(
        self,
        *,
        report: Callable[[str], None],
        on_change: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._report = report
        self._on_change = on_change
        self._clock = clock
        self._trim_due = clock() + _TRIM_EVERY
        self.children: dict[str, Child] = {}

    def add(self, child: Child) -> None:
        """Start a child and keep it running from now on. Raises StartError if it cannot even be started."""
        rotate(child.log)
        self.children[child.name] = child
        self._launch(child)
        self._on_change()

    def watch(self) -> None:
        """Notice who has died, start again who is due, and keep the logs short.

        Raises WrongSettingError when a child ends its first life over a setting: it would end every next one.
        """
        now = self._clock()
        changed = False
        for child in self.children.values():
            if child.process is not None:
                changed |= self._bury(child, now)
            elif now >= child.due_time:
                changed |= self._relaunch(child)
        if now >= self._trim_due:
            self._trim_due = now + _TRIM_EVERY
            for child in self.children.values():
                trim(child.log)
        if changed:
            self._on_change()

    def stop(self, names: Iterable[str], *, grace: float, hastened: Callable[[], bool]) -> list[str]:
        """Stop children together; return those that had to be forced.

        Each has `grace` seconds from the signal on, none once `hastened` says so.
        """
        stopping = [child for name in names if (child := self.children.pop(name, None)) and child.process]
        for child in stopping:
            _signal(child, child.stop_signal)
        deadline = self._clock() + grace
        while any(_runs(child) for child in stopping) and self._clock() < deadline and not hastened():
            time.sleep(_POLL)
        forced = [child for child in stopping if _runs(child)]
        for child in forced:
            _signal(child, child.hasten_signal)
        for child in forced:
            _finish(child)
        return [child.name for child in forced]

    def _launch(self, child: Child) -> None:
        child.process = child.launch()
        child.start_time = self._clock()

    def _relaunch(self, child: Child) -> bool:
        try:
            self._launch(child)
        except (StartError, OSError) as error:
            child.due_time = self._clock() + child.backoff.after(0.0)
            self._report(f"{child.name} cannot be started: {error}")
            return False
        self._report(f"{child.name} started again (process {child.pid})")
        return True

    def _bury(self, child: Child, now: float) -> bool:
        code = child.process.poll() if child.process is not None else None
        if code is None:
            return False
        delay = child.backoff.after(now - child.start_time)
        child.process = None
        if code == EXIT_WRONG_SETTING and not child.deaths:
            raise WrongSettingError(last_line(child.log).removeprefix("posthouse: wrong setting "))
        child.deaths += 1
        child.due_time = now + delay
        # Who was killed had no last words.
        said = last_line(child.log) if code > 0 else ""
        self._report(f"{child.name} {describe_exit(code)}; again in {delay:g} s{f': {said}' if said else ''}")
        return True


def describe_exit(code: int) -> str:
    """Say how a process ended."""
    if code >= 0:
        return f"stopped with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _runs(child: Child) -> bool:
    return child.process is not None and child.process.poll() is None


def _signal(child: Child, number: signal.Signals) -> None:
    if child.process is not None:
        child.process.send_signal(number)  # which does nothing once the child has been reaped


def _finish(child: Child) -> None:
    if child.process is None:
        return
    try:
        child.process.wait(5)
    except subprocess.TimeoutExpired:
        kill(child.process)
