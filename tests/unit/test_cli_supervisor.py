"""Restarting, backing off and stopping in order, on real child processes."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.embedded.spawn import Process, StartError, spawn
from cli.logfiles import rotate, trim
from cli.supervisor import Backoff, Child, Supervisor, describe_exit
from services.kit.config import WrongSettingError
from tests.clock import Clock

_STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
_SLEEPER = "import time; time.sleep(60)"
_PICKY = "import sys; print('posthouse: wrong setting POSTHOUSE_HOST: no'); sys.exit(78)"


class Bench:
    """A supervisor with a clock of the test's own and a note of what it says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Clock()
        self.said: list[str] = []
        self.changes = 0
        self.supervisor = Supervisor(report=self.said.append, on_change=self._changed, clock=self.clock)

    def child(self, name: str, code: str) -> Child:
        log = self.folder / f"{name}.log"
        return Child(name, lambda: spawn([sys.executable, "-c", code], log=log), log)

    def process(self, name: str) -> Process:
        process = self.supervisor.children[name].process
        assert process is not None
        return process

    def _changed(self) -> None:
        self.changes += 1


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.supervisor.stop(list(bench.supervisor.children), grace=0, hastened=lambda: True)


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_backoff_doubles_to_its_limit_and_forgets_after_a_long_life() -> None:
    backoff = Backoff()
    assert [backoff.after(1.0) for _ in range(7)] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert backoff.after(30.0) == 0.2
    assert backoff.after(29.9) == 0.4


def test_a_child_that_dies_is_started_again_when_its_time_has_come(bench: Bench) -> None:
    bench.supervisor.add(bench.child("message", _SLEEPER))
    first = bench.process("message")
    first.kill()
    first.wait()
    bench.supervisor.watch()
    assert bench.supervisor.children["message"].process is None
    bench.clock.now += 0.19
    bench.supervisor.watch()
    assert bench.supervisor.children["message"].process is None
    bench.clock.now += 0.02
    bench.supervisor.watch()
    assert bench.process("message").pid != first.pid
    assert bench.said[0] == "message was ended by SIGKILL; again in 0.2 s"
    assert bench.said[1].startswith("message started again")
    assert bench.changes == 3


def test_its_last_words_are_reported(bench: Bench) -> None:
    bench.supervisor.add(bench.child("gateway", "import sys; sys.exit('port 8000 is taken')"))
    bench.process("gateway").wait()
    bench.supervisor.watch()
    assert bench.said == ["gateway stopped with exit code 1; again in 0.2 s: port 8000 is taken"]


def test_whose_first_life_ends_over_a_setting_is_not_started_again(bench: Bench) -> None:
    bench.supervisor.add(bench.child("message", _PICKY))
    bench.process("message").wait()
    with pytest.raises(WrongSettingError, match=r"^POSTHOUSE_HOST: no$"):
        bench.supervisor.watch()
    assert bench.said == []


def test_what_has_run_is_tried_again_until_its_settings_are_mended(bench: Bench) -> None:
    child = bench.child("message", _SLEEPER)
    bench.supervisor.add(child)
    bench.process("message").kill()
    bench.process("message").wait()
    bench.supervisor.watch()
    child.launch = bench.child("message", _PICKY).launch
    bench.clock.now += 0.3
    bench.supervisor.watch()
    bench.process("message").wait()
    bench.supervisor.watch()
    assert bench.said[-1].endswith(
        "exit code 78; again in 0.4 s: posthouse: wrong setting POSTHOUSE_HOST: no"
    )


def test_a_start_that_fails_is_tried_again(bench: Bench) -> None:
    child = bench.child("nats", _SLEEPER)
    bench.supervisor.add(child)
    bench.process("nats").kill()
    bench.process("nats").wait()
    bench.supervisor.watch()
    good, child.launch = child.launch, _refuse
    bench.clock.now += 0.3
    bench.supervisor.watch()
    assert bench.said[-1] == "nats cannot be started: no room"
    child.launch = good
    bench.clock.now += 0.5
    bench.supervisor.watch()
    assert bench.process("nats").poll() is None


def test_the_first_start_that_fails_is_the_callers(bench: Bench) -> None:
    with pytest.raises(StartError, match="no room"):
        bench.supervisor.add(Child("nats", _refuse, bench.folder / "nats.log"))


def test_stop_asks_first_and_forces_after_the_grace(bench: Bench) -> None:
    bench.supervisor.add(bench.child("meek", _SLEEPER))
    bench.supervisor.add(bench.child("stubborn", _STUBBORN))
    _wait(lambda: "up" in (bench.folder / "stubborn.log").read_text())
    meek, stubborn = bench.process("meek"), bench.process("stubborn")
    bench.supervisor.stop(["meek"], grace=10, hastened=lambda: False)
    assert meek.returncode == -signal.SIGTERM
    assert bench.supervisor.stop(["stubborn"], grace=0, hastened=lambda: False) == ["stubborn"]
    assert stubborn.returncode == -signal.SIGKILL
    assert bench.supervisor.children == {}


def test_a_second_request_hastens_the_stop(bench: Bench) -> None:
    bench.supervisor.add(bench.child("stubborn", _STUBBORN))
    _wait(lambda: "up" in (bench.folder / "stubborn.log").read_text())
    # Longer than a test may take.
    assert bench.supervisor.stop(["stubborn"], grace=3600, hastened=lambda: True) == ["stubborn"]


def test_what_has_been_stopped_is_not_started_again(bench: Bench) -> None:
    bench.supervisor.add(bench.child("message", _SLEEPER))
    bench.supervisor.stop(["message", "never-there"], grace=10, hastened=lambda: False)
    bench.clock.now += 60
    bench.supervisor.watch()
    assert bench.supervisor.children == {}
    assert bench.said == []


def test_exits_in_words() -> None:
    assert describe_exit(3) == "stopped with exit code 3"
    assert describe_exit(-15) == "was ended by SIGTERM"
    assert describe_exit(-200) == "was ended by signal 200"


def test_logs_do_not_grow_for_ever(tmp_path: Path) -> None:
    log = tmp_path / "message.log"
    rotate(log)
    log.write_text("x" * 100)
    rotate(log)
    trim(log, limit=100)
    assert log.read_text() == "x" * 100
    with log.open("a") as writer:
        trim(log, limit=99)
        writer.write("y")
    assert log.read_text() == "y"
    assert (tmp_path / "message.log.1").read_text() == "x" * 100
    log.write_bytes(b"z" * (8 * 1024 * 1024 + 1))
    rotate(log)
    assert not log.exists()


def _refuse() -> Process:
    raise StartError("no room")
