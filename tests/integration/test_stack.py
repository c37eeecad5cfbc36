"""`posthouse up` as a process: start, refusal, restart, stop; the four processes are stand-ins."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.servers import free_ports, temporary_directory

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]

# Writes its environment down; the gateway answers /ready; `stubborn` in the folder makes it ignore SIGTERM.
_STAND_IN = """
import http.server, json, os, pathlib, signal, sys, time
name, folder = sys.argv[1], pathlib.Path(os.environ["POSTHOUSE_DATA_DIR"])
(folder / (name + ".new")).write_text(json.dumps(dict(os.environ)))
(folder / (name + ".new")).rename(folder / (name + ".env"))
if (folder / "picky").exists() and name == "dispatch":
    print("posthouse: wrong setting POSTHOUSE_ROUTES: no")
    sys.exit(78)
if (folder / "stubborn").exists():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if name == "gateway":
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/ready" else 404)
            self.end_headers()
    http.server.HTTPServer(("127.0.0.1", int(os.environ["POSTHOUSE_HTTP_PORT"])), Handler).serve_forever()
while True:
    time.sleep(60)
"""

_UP = """
import sys
from pathlib import Path
from cli.stack import Stack
from services.kit.config import load_settings
settings = load_settings(data_dir=Path(sys.argv[1]), http_port=int(sys.argv[2]), grpc_port=int(sys.argv[3]))
sys.exit(Stack(settings, program=[sys.executable, "-c", sys.argv[4]]).run())
"""


class Up:
    """One `up` on a folder, as a process."""

    def __init__(self, folder: Path, *, grace: float) -> None:
        self.folder = folder
        self.http_port, self.grpc_port = free_ports(1), free_ports(6)
        self.output = folder / "output"
        with self.output.open("ab") as output:
            command = [sys.executable, "-c", _UP, str(folder), str(self.http_port), str(self.grpc_port)]
            self.process = subprocess.Popen(  # noqa: S603 - our own code
                [*command, _STAND_IN],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=Path(__file__).parents[2],
                env={**os.environ, "POSTHOUSE_SHUTDOWN_GRACE": str(grace)},
            )

    def said(self, text: str) -> bool:
        return text in self.output.read_text()

    def await_words(self, text: str) -> None:
        _wait(lambda: self.said(text), self.output.read_text)

    def state(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / "posthouse.json").read_text())
        return content

    def pid(self, name: str) -> int:
        return int(self.state()["children"].get(name, [0])[0])

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(180)


def _wait(condition: Callable[[], bool], explain: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.05)


@pytest.fixture
def folder() -> Iterator[Path]:
    with temporary_directory() as path:
        yield path


@contextlib.contextmanager
def _up(folder: Path, *, grace: float = 1) -> Iterator[Up]:
    up = Up(folder, grace=grace)
    try:
        up.await_words("Ready in")
        yield up
    finally:
        if up.process.poll() is None:
            up.process.kill()
            up.process.wait()


def test_up_starts_restarts_and_stops_everything(folder: Path) -> None:
    with _up(folder) as up:
        assert set(up.state()["children"]) == {
            "postgres", "nats", "message", "conversation", "dispatch", "gateway"
        }  # fmt: skip
        up.await_words(f"curl -X POST http://127.0.0.1:{up.http_port}/api/v1/messages/send")

        refusal = subprocess.run(  # noqa: S603 - our own code
            [sys.executable, "-c", _UP, str(folder), str(free_ports(1)), str(free_ports(6)), _STAND_IN],
            check=False, capture_output=True, text=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert refusal.returncode == 1
        assert (
            f"already running on {folder}: process {up.process.pid}, HTTP port {up.http_port}"
            in refusal.stderr
        )

        first = {name: up.pid(name) for name in ("message", "nats", "postgres")}
        for pid in first.values():
            os.kill(pid, signal.SIGKILL)
        for name, pid in first.items():
            up.await_words(f"{name} started again")
            _wait(lambda name=name, pid=pid: up.pid(name) not in (0, pid))  # type: ignore[misc]

        children = [up.pid(name) for name in up.state()["children"]]
        assert up.stop() == 0
        assert up.said("Stopped.")
        assert not any(Path(f"/proc/{pid}/cmdline").exists() for pid in children)
        assert not (folder / "posthouse.json").exists()


def test_children_are_told_where_everything_is(folder: Path) -> None:
    with _up(folder) as up:
        # Only the gateway says when it is ready; the other stand-ins may still be starting.
        _wait((folder / "dispatch.env").exists)
        told = json.loads((folder / "dispatch.env").read_text())
        assert told["DATABASE_URL"] == f"postgresql://postgres@/posthouse?host={folder}/postgres/socket"
        assert told["NATS_URL"].startswith("nats://")
        assert told["POSTHOUSE_SIMULATOR_SECRET"] == (folder / "simulator.secret").read_text()
        assert told["POSTHOUSE_SIMULATOR_PATH"] == f"{folder}/simulator.db"
        assert told["POSTHOUSE_WEBHOOK_BASE_URL"] == f"http://127.0.0.1:{up.http_port}"
        assert told["POSTHOUSE_CONVERSATION_ADDRESS"] == f"127.0.0.1:{up.grpc_port + 1}"
        with psycopg.connect(told["DATABASE_URL"]) as connection:
            found = connection.execute("SELECT to_regclass('messages') IS NOT NULL").fetchone()
        assert found == (True,)
        assert up.stop(signal.SIGINT) == 0


def test_up_after_kill_9_of_the_supervisor_takes_over(folder: Path) -> None:
    with _up(folder) as up:
        # Outlives its supervisor, whatever it is told.
        (folder / "stubborn").touch()
        os.kill(up.pid("message"), signal.SIGKILL)
        up.await_words("message started again")
        _wait(lambda: up.pid("message") != 0 and _ignores_sigterm(up.pid("message")))
        stubborn = up.pid("message")
        url = up.state()["database_url"]
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS value")
        up.process.kill()
        up.process.wait()
    (folder / "stubborn").unlink()
    assert Path(f"/proc/{stubborn}/cmdline").read_bytes()
    up.output.unlink()
    with _up(folder) as next_up:
        assert next_up.said("ended what an earlier run had left: message")
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT value FROM kept").fetchone() == (1,)
        assert next_up.stop() == 0


def test_a_wrong_setting_of_a_process_ends_the_start_with_one_line(folder: Path) -> None:
    (folder / "picky").touch()
    up = Up(folder, grace=1)
    assert up.process.wait(180) == 78
    assert up.output.read_text().count("posthouse: wrong setting POSTHOUSE_ROUTES: no\n") == 1
    assert "again in" not in up.output.read_text()


def test_a_second_signal_hastens_the_stop(folder: Path) -> None:
    (folder / "stubborn").touch()
    with _up(folder, grace=600) as up:
        _wait(lambda: all(_ignores_sigterm(up.pid(name)) for name in ("message", "gateway")))
        up.process.send_signal(signal.SIGINT)
        up.await_words("Stopping")
        assert up.stop(signal.SIGINT) == 0
        assert up.said("had to end gateway, message, conversation, dispatch")


def _ignores_sigterm(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False  # the one before, which is gone
    ignored = int(next(line for line in status.splitlines() if line.startswith("SigIgn")).split()[1], 16)
    return bool(ignored & 1 << (signal.SIGTERM - 1))
