"""The real servers the suite runs on: one PostgreSQL for all tests, a NATS server for each that asks."""

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from cli.embedded.nats import EmbeddedNats
from cli.embedded.postgres import EmbeddedPostgres
from cli.embedded.spawn import Process, kill, start, stop
from tests.ports import free_ports

_TEMPLATE = "posthouse_template"

# Nothing of a test run need survive a power cut.
FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "128MB",
}


@contextlib.contextmanager
def temporary_directory() -> Iterator[Path]:
    """Yield a folder; pytest's own are closed to the user that runs PostgreSQL for root."""
    path = Path(tempfile.mkdtemp(prefix="posthouse-test-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class PostgresForTests:
    """A running PostgreSQL that clones databases from a template migrated once."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server
        self._numbers = itertools.count(1)
        self._migrated = False

    def create_database(self, *, migrated: bool = True) -> str:
        """Create a database and return its URL."""
        if migrated:
            self._ensure_template()
        name = f"test_{next(self._numbers)}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE if migrated else 'template1'}")
        return self._server.dsn(name)

    def drop_database(self, url: str) -> None:
        """Drop a database, whoever is still connected to it."""
        name = urlsplit(url).path.removeprefix("/")
        self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _ensure_template(self) -> None:
        if self._migrated:
            return
        from services.ledger.migrate import upgrade  # noqa: PLC0415 - so that unit tests need no ledger

        self._execute(f"CREATE DATABASE {_TEMPLATE}")
        upgrade(self._server.dsn(_TEMPLATE))
        self._migrated = True

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self._server.dsn("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())


class NatsForTests:
    """A NATS server that a test may kill, rob of its store, and start again on the same port."""

    def __init__(self, directory: Path) -> None:
        self._server = EmbeddedNats(directory, log=directory / "nats.log", port=free_ports(1), sync="2m")
        self._process: Process | None = None
        self.url = self._server.url

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = start(self._server, timeout=180)

    def kill(self, *, delete_store: bool = False) -> None:
        """Kill it at once, and delete what JetStream stored if asked to."""
        if self._process is not None:
            kill(self._process)
            self._process = None
        if delete_store:
            shutil.rmtree(self._server.store, ignore_errors=True)


@contextlib.contextmanager
def running_postgres() -> Iterator[PostgresForTests]:
    """Yield a PostgreSQL tuned for speed alone."""
    with temporary_directory() as directory:
        server = EmbeddedPostgres(directory / "postgres", log=directory / "postgres.log", settings=FAST)
        process = start(server, timeout=180)
        try:
            yield PostgresForTests(server)
        finally:
            stop(server, process, timeout=180)


@contextlib.contextmanager
def running_nats() -> Iterator[NatsForTests]:
    """Yield a NATS server with an empty JetStream."""
    with temporary_directory() as directory:
        server = NatsForTests(directory)
        server.start()
        try:
            yield server
        finally:
            server.kill()
