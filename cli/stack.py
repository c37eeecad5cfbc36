"""The whole stack under one supervisor: what `posthouse up` runs."""

import contextlib
import os
import secrets
import signal
import sys
import time
from pathlib import Path

from pydantic import SecretStr

from cli import ports
from cli.console import StackConsole
from cli.datadir import DataDir, DataDirError, StackState, start_time
from cli.embedded.nats import EmbeddedNats, free_port
from cli.embedded.postgres import EmbeddedPostgres
from cli.embedded.spawn import Process, Server, StartError, last_line, spawn
from cli.health import gateway_is_ready
from cli.signals import StopRequestedError, StopSignals
from cli.supervisor import LONGEST_PAUSE, Backoff, Child, Supervisor
from services.kit.config import EXIT_WRONG_SETTING, Settings, WrongSettingError
from services.kit.metrics_server import metrics_address

DATABASE = "posthouse"

_GRPC_PORTS = 3
_POSTGRES, _NATS = "postgres", "nats"
_MONITOR = "monitor-simulator"
# The gateway goes first, so that nothing new comes in while the others finish what they have.
_STOP_ORDER = (("gateway",), ("message", "conversation", "dispatch"), (_MONITOR,))
_SERVICES = ("message", "conversation", "dispatch", "gateway")

# What bulk senders on this machine may use until keys are given out: messages per period, in effect no limit.
_BULK_KEY = "bulk-demo"
_BULK = "bulk-*=1000000000"

# A connection that has ended is forgotten after a minute.
_PORTS_TIMEOUT = 65.0
_PORTS_PAUSE = 0.2
_SERVER_TIMEOUT = 60.0
_START_ATTEMPTS = 4
_READY_TIMEOUT = 60.0
_NATS_GRACE = 10.0
_POSTGRES_GRACE = 30.0


class Stack:
    """PostgreSQL, NATS and the four processes of one data folder."""

    def __init__(
        self,
        settings: Settings,
        *,
        nats_port: int = 0,
        restart_pause: float = LONGEST_PAUSE,
        monitor_simulator: bool = False,
        program: list[str] | None = None,
    ) -> None:
        self._settings = settings
        self._gateway_token = settings.gateway_token or SecretStr(secrets.token_urlsafe(32))
        self._restart_pause = restart_pause
        self._nats_port = nats_port
        self._monitor_port = free_port() if monitor_simulator else 0
        # -P: a folder named `services` where the command is called must not hide the package.
        self._program = program or [sys.executable, "-P", "-m", "cli.main"]
        self._data = DataDir(settings.data_dir)
        self._console = StackConsole()
        self._database_url = settings.database_url
        self._nats_url = settings.nats_url
        self._starts: dict[int, float] = {}
        self._supervisor = Supervisor(report=self._console.event, on_change=self._write_state)
        self._environment: dict[str, str] = {}
        self._ports = contextlib.ExitStack()

    def run(self) -> int:
        """Start everything, keep it running until a signal, stop everything; return the exit code."""
        began = time.monotonic()
        stop = StopSignals()
        try:
            self._data.acquire()
        except DataDirError as error:
            self._console.failure(str(error))
            return 1
        code = 0
        try:
            self._start(stop, began)
            while not stop.requested:
                self._supervisor.watch()
                stop.pause()
        except StopRequestedError:
            pass
        except (StartError, DataDirError, OSError) as error:
            self._console.failure(str(error))
            code = 1
        except WrongSettingError as error:
            self._console.failure(f"wrong setting {error}")
            code = EXIT_WRONG_SETTING
        finally:
            self._stop(stop)
        return code

    def _start(self, stop: StopSignals, began: float) -> None:
        settings = self._settings
        self._console.starting(self._data.path)
        # PostgreSQL has its own way to end a server that was left.
        ended = self._data.end_leftovers(grace=settings.shutdown_grace, sparing=[_POSTGRES])
        if ended:
            self._console.event(f"ended what an earlier run had left: {', '.join(ended)}")
        self._take_ports(stop)
        self._start_servers(stop)
        self._migrate()
        stop.pause(0)
        self._environment = self._child_environment()
        for name in self._names():
            self._supervisor.add(
                Child(
                    name,
                    lambda name=name: self._spawn(name),  # type: ignore[misc]
                    self._log(name),
                    backoff=Backoff(limit=self._restart_pause),
                )
            )
        self._console.overview(self._rows())
        self._await_gateway(stop)
        self._console.ready(time.monotonic() - began, self._base_url())

    def _take_ports(self, stop: StopSignals) -> None:
        """Wait until our ports are no connection's, and keep them so; raise StartError for what is served."""
        names = self._port_names()
        host = self._settings.host
        deadline = time.monotonic() + _PORTS_TIMEOUT
        told = False
        while reasons := ports.busy(host, names):
            line = ports.describe(host, names, reasons)
            if ports.PASSING not in reasons.values():
                raise StartError(line)
            if time.monotonic() > deadline:
                raise StartError(f"{line}; net.ipv4.ip_local_reserved_ports keeps ports free of connections")
            if not told:
                self._console.event(f"{line}; waiting for it to pass")
                told = True
            stop.pause(_PORTS_PAUSE)
        self._ports.enter_context(ports.reserved(host, names))

    def _port_names(self) -> dict[int, str]:
        settings = self._settings
        names = {settings.http_port: "HTTP, --http-port"}
        gap = settings.http_port - settings.grpc_port
        if 0 <= gap < _GRPC_PORTS:
            raise StartError(f"port {settings.http_port} is one of gRPC's three, HTTP needs another")
        for offset, name in enumerate(("MessageService", "ConversationService", "DispatchService")):
            names[settings.grpc_port + offset] = f"{name}, --grpc-port{f' + {offset}' if offset else ''}"
        for name in _SERVICES[:_GRPC_PORTS]:
            if (address := metrics_address(name, settings)) is not None:
                if address[1] in names:
                    wanted = f"{names[address[1]]} and by the metrics of {name}"
                    raise StartError(f"port {address[1]} is wanted by {wanted}")
                names[address[1]] = f"metrics of {name}, POSTHOUSE_METRICS_PORT"
        if self._nats_port and self._embeds("nats_url"):
            names[self._nats_port] = "NATS, --nats-port"
        return names

    def _start_servers(self, stop: StopSignals) -> None:
        """Start the embedded servers, both at once, and wait for both."""
        waiting: list[tuple[Server, str]] = []
        postgres: EmbeddedPostgres | None = None
        if self._embeds("database_url"):
            postgres = EmbeddedPostgres(self._data.path / "postgres", log=self._log(_POSTGRES))
            self._database_url = postgres.dsn(DATABASE)
            self._add_server(postgres, _POSTGRES, hasten=signal.SIGQUIT)
            waiting.append((postgres, _POSTGRES))
        if self._embeds("nats_url"):
            nats = EmbeddedNats(self._data.path / "nats", log=self._log(_NATS), port=self._nats_port)
            self._nats_url = nats.url
            self._add_server(nats, _NATS, hasten=signal.SIGKILL)
            waiting.append((nats, _NATS))
        for server, name in waiting:
            self._await_server(server, name, stop)
        if postgres is not None:
            postgres.ensure_database(DATABASE)

    def _add_server(
        self, server: EmbeddedPostgres | EmbeddedNats, name: str, *, hasten: signal.Signals
    ) -> None:
        backoff = Backoff(limit=self._restart_pause)
        self._supervisor.add(
            Child(name, server.launch, self._log(name), server.stop_signal, hasten, backoff=backoff)
        )

    def _await_server(self, server: Server, name: str, stop: StopSignals) -> None:
        deadline = time.monotonic() + _SERVER_TIMEOUT
        while not server.is_ready():
            # Sessions of a server that was killed may hold its memory for a moment: try again, not for ever.
            self._supervisor.watch()
            if self._supervisor.children[name].deaths >= _START_ATTEMPTS:
                raise StartError(f"{server.name} does not start: {last_line(self._log(name))}")
            if time.monotonic() > deadline:
                raise StartError(f"{server.name} does not answer; {self._log(name)} says why")
            stop.pause(0.02)

    def _migrate(self) -> None:
        from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - the same

        from services.ledger.migrate import upgrade  # noqa: PLC0415 - half a second, spent while servers start

        try:
            upgrade(self._database_url)
        except SQLAlchemyError as error:
            raise StartError(f"cannot migrate the database: {str(error).splitlines()[0]}") from error

    def _spawn(self, name: str) -> Process:
        command = [*self._program, name]
        if name == _MONITOR:
            command += ["--port", str(self._monitor_port)]
        return spawn(command, log=self._log(name), env=self._environment)

    def _names(self) -> tuple[str, ...]:
        return (*_SERVICES, _MONITOR) if self._monitor_port else _SERVICES

    def _child_environment(self) -> dict[str, str]:
        settings = self._settings
        host = ports.reachable(settings.host)
        # What is set outside wins, and the command line has won already: it is in the settings.
        defaults = {
            "POSTHOUSE_MESSAGE_ADDRESS": ports.join(host, settings.grpc_port),
            "POSTHOUSE_CONVERSATION_ADDRESS": ports.join(host, settings.grpc_port + 1),
            "POSTHOUSE_DISPATCH_ADDRESS": ports.join(host, settings.grpc_port + 2),
            "POSTHOUSE_SIMULATOR_PATH": str(self._data.path / "simulator.db"),
            "POSTHOUSE_WEBHOOK_BASE_URL": self._base_url(),
        }
        if self._offers_bulk():
            defaults["POSTHOUSE_RATE_LIMIT_BULK"] = _BULK
        if settings.simulator_secret is None:
            defaults["POSTHOUSE_SIMULATOR_SECRET"] = self._data.secret()
        given = settings.model_fields_set
        own = {
            name: value
            for name, value in defaults.items()
            if name.removeprefix("POSTHOUSE_").lower() not in given
        }
        if self._monitor_port:
            own["MONITOR_API_URL"] = self._monitor_url()
        return {
            **os.environ,
            **own,
            "POSTHOUSE_GATEWAY_TOKEN": self._gateway_token.get_secret_value(),
            "DATABASE_URL": self._database_url,
            "NATS_URL": self._nats_url,
            "POSTHOUSE_DATA_DIR": str(self._data.path),
            "POSTHOUSE_HOST": settings.host,
            "POSTHOUSE_HTTP_PORT": str(settings.http_port),
            "POSTHOUSE_GRPC_PORT": str(settings.grpc_port),
            "PYTHONUNBUFFERED": "1",
        }

    def _await_gateway(self, stop: StopSignals) -> None:
        """Keep everything running until the gateway is ready; say once that it takes long."""
        patience: float | None = time.monotonic() + _READY_TIMEOUT
        while not gateway_is_ready(self._settings, self._gateway_token):
            if patience is not None and time.monotonic() > patience:
                patience = None
                self._console.event(
                    f"not ready after {_READY_TIMEOUT:g} s, still waiting; the logs in "
                    f"{self._log('').parent} say why"
                )
            self._supervisor.watch()
            stop.pause(0.05)

    def _stop(self, stop: StopSignals) -> None:
        running = [name for name, child in self._supervisor.children.items() if child.process is not None]
        if running:
            self._console.stopping()
        forced = []
        # A little more than the children allow themselves.
        grace = self._settings.drain_notice + self._settings.shutdown_grace + 2
        for names in _STOP_ORDER:
            forced += self._supervisor.stop(names, grace=grace, hastened=stop.hastened)
        forced += self._supervisor.stop([_NATS], grace=_NATS_GRACE, hastened=stop.hastened)
        forced += self._supervisor.stop([_POSTGRES], grace=_POSTGRES_GRACE, hastened=stop.hastened)
        self._ports.close()
        self._data.release()
        if running:
            self._console.stopped(forced)

    def _write_state(self) -> None:
        children = {}
        for name, child in self._supervisor.children.items():
            if child.pid is not None:
                if child.pid not in self._starts:
                    self._starts[child.pid] = start_time(child.pid)
                children[name] = (child.pid, self._starts[child.pid])
        self._data.write_state(
            StackState(
                pid=os.getpid(),
                host=self._settings.host,
                http_port=self._settings.http_port,
                grpc_port=self._settings.grpc_port,
                database_url=self._database_url,
                nats_url=self._nats_url,
                children=children,
            )
        )

    def _embeds(self, setting: str) -> bool:
        return setting not in self._settings.model_fields_set

    def _base_url(self) -> str:
        return f"http://{ports.join(ports.reachable(self._settings.host), self._settings.http_port)}"

    def _monitor_url(self) -> str:
        return f"http://127.0.0.1:{self._monitor_port}"

    def _log(self, name: str) -> Path:
        return self._data.path / "logs" / f"{name}.log"

    def _offers_bulk(self) -> bool:
        """Tell whether a key for bulk sends is there to try: only where nobody else can reach it."""
        settings = self._settings
        local = settings.host in ("127.0.0.1", "::1", "localhost")
        free = local and not settings.authenticates
        return settings.rate_limit_enabled and free and "rate_limit_bulk" not in settings.model_fields_set

    def _rows(self) -> list[tuple[str, str, str]]:
        settings = self._settings
        own = "your own server, from DATABASE_URL", "your own server, from NATS_URL"
        host = ports.reachable(settings.host)
        rows = [
            ("PostgreSQL", str(self._data.path / "postgres") if self._embeds("database_url") else own[0], ""),
            ("NATS", self._nats_url.rsplit("@", 1)[-1] if self._embeds("nats_url") else own[1], "JetStream"),
        ]
        rows += [
            (name, ports.join(host, settings.grpc_port + offset), "gRPC")
            for offset, name in enumerate(_SERVICES[:_GRPC_PORTS])
        ]
        rows.append(("gateway", self._base_url(), f"HTTP; try it at {self._base_url()}/api/v1/docs"))
        if self._monitor_port:
            rows.append(("monitor", self._monitor_url(), "a Collections Monitor to try"))
        if settings.rate_limit_enabled:
            place = f"{settings.rate_limit_requests} requests per {settings.rate_limit_period} s and endpoint"
            note = f"bulk senders have their own; try X-API-Key: {_BULK_KEY}" if self._offers_bulk() else ""
            rows.append(("rate limits", place, note))
        if not settings.webhook_verification:
            rows.append(
                ("webhooks", "NOT VERIFIED", "whoever reaches loopback can forge them; development only")
            )
        rows.append(("logs", str(self._log("").parent), ""))
        return rows
