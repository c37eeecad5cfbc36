"""A whole Posthouse as a user runs it: `posthouse up` in a process of its own, on ports of its own."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import httpx2
import psutil
import psycopg
from psycopg import sql

from cli.datadir import DataDir, StackState
from cli.embedded.spawn import Process, kill, spawn, wait_gone
from services.kit.config import Settings
from services.providers.simulator_store import SimulatorStore
from tests.e2e.left_over import left_over
from tests.servers import free_ports, temporary_directory

PROGRAM = Path(sys.executable).with_name("posthouse")
SERVICES = ("message", "conversation", "dispatch", "gateway")

_START = 120.0
_RECOVERY = 60.0
_POLL = 0.05
_LOG_TAIL = 1500


def eventually(
    condition: Callable[[], bool],
    *,
    timeout: float = 120.0,
    what: str,
    report: Callable[[], str] = lambda: "",
) -> None:
    """Wait until the condition holds; fail when it does not within `timeout` seconds.

    The failure says `what` was waited for, and what `report` tells by then.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}\n{report()}"
        time.sleep(_POLL)


class E2eStack:
    """A stack in a folder: it can be started, hurt, looked into, stopped and started again."""

    def __init__(
        self, folder: Path, settings: Mapping[str, str] | None = None, options: Sequence[str] = ()
    ) -> None:
        self._options = options
        self.data = folder / "data"
        self.log = folder / "up.log"
        self.http_port = free_ports(1)
        self.grpc_port = free_ports(6)
        # A folder without a .env file.
        self._directory = folder / "elsewhere"
        self._directory.mkdir()
        self._environment = outside_environment(settings or {})
        self._process: Process | None = None
        self.url = f"http://127.0.0.1:{self.http_port}"
        self.http = httpx2.Client(base_url=self.url, timeout=60, trust_env=False)

    def start(self) -> None:
        """Run `posthouse up` and wait until all of it answers."""
        self._process = spawn(self.command(), log=self.log, env=self._environment, cwd=self._directory)
        deadline = time.monotonic() + _START
        while not self.is_healthy():
            code = self._process.poll()
            assert code is None, f"up ended with exit code {code}\n{self.report()}"
            assert time.monotonic() < deadline, f"not ready within {_START:g} s\n{self.report()}"
            time.sleep(_POLL)

    def command(self) -> list[str]:
        """Return the command line of `up`."""
        return [
            str(PROGRAM), "up", "--data-dir", str(self.data),
            "--http-port", str(self.http_port), "--grpc-port", str(self.grpc_port), *self._options,
        ]  # fmt: skip

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command beside the stack and return how it ended."""
        return subprocess.run(  # noqa: S603 - our own programs
            command,
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            env=self._environment,
            cwd=self._directory,
        )

    @property
    def pid(self) -> int:
        """Return the process id of the supervisor."""
        assert self._process is not None
        return self._process.pid

    @property
    def state(self) -> StackState:
        """Return what the running stack tells other commands."""
        state = DataDir(self.data).read_state()
        assert state is not None, self.report()
        return state

    def child(self, name: str) -> int | None:
        """Return the process id of a child, None while it is down."""
        child = self.state.children.get(name)
        return None if child is None else child[0]

    def is_healthy(self) -> bool:
        """Tell whether the gateway answers and has seen all services answer."""
        try:
            return bool(self.http.get("/health").json()["status"] == "ok")
        except (httpx2.TransportError, ValueError):
            return False

    def await_health(self, *, timeout: float = 120.0) -> None:
        """Wait until all services answer again."""
        eventually(self.is_healthy, timeout=timeout, what="the stack is healthy again", report=self.report)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a child, or to the supervisor as `up`, and to what a server has started."""
        pid = self.pid if name == "up" else self.child(name)
        assert pid is not None, f"{name} is down"
        own = [] if name == "up" else psutil.Process(pid).children(recursive=True)
        for process in (psutil.Process(pid), *own):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    @contextlib.contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """Hold a child, or the supervisor as `up`, still."""
        self.signal(name, signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(psutil.NoSuchProcess, AssertionError):
                self.signal(name, signal.SIGCONT)

    def kill(self, name: str) -> None:
        """Kill a child with SIGKILL and wait until the supervisor has started it again."""
        pid = self.child(name)
        assert pid is not None, f"{name} is down"
        os.kill(pid, signal.SIGKILL)
        self.await_restart(name, pid)

    def await_restart(self, name: str, pid: int) -> None:
        """Wait until a child runs as another process than before."""
        eventually(
            lambda: self.child(name) not in (None, pid), what=f"{name} is started again", report=self.report
        )

    def lose_broker(self) -> tuple[float, float]:
        """Kill NATS and delete all it has stored; return when it was dead, and when it was started again.

        Both are in seconds since 1970.
        """
        nats = self.child("nats")
        store = self.data / "nats" / "jetstream"
        assert nats is not None
        assert store.is_dir()
        with self.frozen("up"):
            os.kill(nats, signal.SIGKILL)
            # Its parent is held still and cannot reap it: a zombie is all there is to wait for.
            eventually(lambda: psutil.Process(nats).status() == psutil.STATUS_ZOMBIE, what="NATS is dead")
            dead = time.time()
            shutil.rmtree(store)
        self.await_restart("nats", nats)
        return dead, self.state.children["nats"][1]

    @contextlib.contextmanager
    def second_dispatcher(self) -> Iterator[grpc.Channel]:
        """Run one more dispatch process beside the stack's own; yield a channel to its service."""
        port = free_ports(6)
        environment = {
            **self._environment,
            "DATABASE_URL": self.state.database_url,
            "NATS_URL": self.state.nats_url,
            "POSTHOUSE_DATA_DIR": str(self.data),
            "POSTHOUSE_GRPC_PORT": str(port),
            "POSTHOUSE_SIMULATOR_PATH": str(self.data / "simulator.db"),
            "POSTHOUSE_SIMULATOR_SECRET": DataDir(self.data).secret(),
            "POSTHOUSE_WEBHOOK_BASE_URL": self.url,
        }
        log = self.data / "logs" / "dispatch-2.log"
        process = spawn([str(PROGRAM), "dispatch"], log=log, env=environment, cwd=self._directory)
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port + 2}") as channel:
                grpc.channel_ready_future(channel).result(_START)
                yield channel
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                kill(process)

    def simulate(self, **profile: Any) -> None:
        """Have the simulator behave like this for SMS, as soon as it listens; what is not given is 0."""

        def told() -> bool:
            with contextlib.suppress(httpx2.TransportError):
                response = self.http.put("/api/v1/simulator", json={"type": "sms", **profile})
                assert response.status_code in (200, 500, 503, 504), response.text
                return response.status_code == 200
            return False

        eventually(told, timeout=_START, what="the simulator has its profile", report=self.report)

    def kill_everything(self) -> None:
        """Kill supervisor, processes and servers with SIGKILL, none of them forewarned."""
        with contextlib.suppress(psutil.NoSuchProcess):
            # Held still first: it can neither restart what dies nor die before its children.
            self.signal("up", signal.SIGSTOP)
        processes = self.processes()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        assert self._process is not None
        self._process.wait(120)
        assert not wait_gone(processes, timeout=120)

    def processes(self) -> list[psutil.Process]:
        """Return the supervisor and everything below it."""
        supervisor = psutil.Process(self.pid)
        return [*supervisor.children(recursive=True), supervisor]

    def terminate(self) -> int:
        """Ask the stack to stop, wait, and return its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(120)

    def discard(self) -> None:
        """End the stack however it is."""
        self.http.close()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.send_signal(signal.SIGCONT)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                kill(self._process)

    def channel(self, offset: int = 0) -> grpc.Channel:
        """Return a gRPC channel to the service at this place after the first port."""
        return grpc.insecure_channel(f"127.0.0.1:{self.grpc_port + offset}")

    def rows(self, query: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Return what the ledger answers."""
        with self._connect() as connection:
            return connection.execute(query.encode(), parameters).fetchall()

    def counts(self) -> dict[str, int]:
        """Return the number of rows of every table."""
        with self._connect() as connection:
            names = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
            ).fetchall()
            counts = {}
            for (name,) in names:
                query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(name))
                row = connection.execute(query).fetchone()
                counts[name] = 0 if row is None else row[0]
        return counts

    def await_rest(self, *, timeout: float = 120.0) -> None:
        """Wait until nothing is left to do: no work, no news, no callback on its way."""

        def done() -> bool:
            return self.rows("SELECT count(*) FROM outbox")[0][0] == 0

        def rests() -> bool:
            # Without work no more callbacks come; and the news of the last one may have come since.
            return done() and self.simulator.pending() == 0 and done()

        eventually(rests, timeout=timeout, what="outbox and callbacks are empty", report=self.left_over)

    @property
    def simulator(self) -> SimulatorStore:
        """Return the simulator's own memory, to read."""
        return SimulatorStore(self.data / "simulator.db")

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        """Connect to the ledger; a server that was killed needs a moment to recover."""
        deadline = time.monotonic() + _RECOVERY
        while True:
            try:
                return psycopg.connect(self.state.database_url, autocommit=True)
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(_POLL)

    def left_over(self) -> str:
        """Return what is known of messages that are not done, and what the processes said last."""
        return f"{left_over(self.rows)}\ncallbacks on their way: {self.simulator.pending()}\n{self.report()}"

    def report(self) -> str:
        """Return what `up` and the processes said last."""
        logs = [self.log, *sorted((self.data / "logs").glob("*.log"))]
        tails = [(log.name, _tail(log)) for log in logs if log.exists()]
        return "\n".join(f"--- {name}\n{tail}" for name, tail in tails)


@contextlib.contextmanager
def running_stack(
    settings: Mapping[str, str] | None = None, options: Sequence[str] = ()
) -> Iterator[E2eStack]:
    """Yield a running stack in a folder of its own."""
    with temporary_directory() as folder:
        stack = E2eStack(folder, settings, options)
        try:
            stack.start()
            yield stack
        finally:
            stack.discard()


def outside_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without the developer's own settings."""
    aliased = {name.upper() for name, field in Settings.model_fields.items() if field.validation_alias}
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.upper() not in aliased and not name.upper().startswith("POSTHOUSE_")
    }
    return {**kept, "RATE_LIMIT_ENABLED": "false", **settings}


def _tail(log: Path) -> str:
    return log.read_bytes()[-_LOG_TAIL:].decode(errors="replace")
