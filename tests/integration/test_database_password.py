"""A PostgreSQL that asks for a password is reached as docker-compose.yml says, whatever the password is."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
import sqlalchemy as sa
import yaml
from psycopg import sql

from cli.embedded.postgres import EmbeddedPostgres
from cli.embedded.spawn import start, stop
from services.kit.config import Settings
from services.ledger.database import Database
from services.ledger.migrate import upgrade
from tests.servers import FAST, temporary_directory

pytestmark = pytest.mark.integration

# All of it means something in a URL, and some in a connection string.
PASSWORD = "a@b:c/d#e%20f?g=h&i j'k\\l+"
_GIVEN = "${POSTGRES_PASSWORD:-posthouse}"


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    with temporary_directory() as directory:
        server = EmbeddedPostgres(directory / "postgres", log=directory / "postgres.log", settings=FAST)
        process = start(server, timeout=180)
        try:
            with psycopg.connect(server.dsn("postgres"), autocommit=True) as connection:
                connection.execute(
                    sql.SQL("CREATE ROLE posthouse LOGIN PASSWORD {}").format(sql.Literal(PASSWORD))
                )
                connection.execute("CREATE DATABASE posthouse OWNER posthouse")
                (rules,) = connection.execute("SHOW hba_file").fetchone() or ("",)
                Path(rules).write_text("local all posthouse scram-sha-256\nlocal all all trust\n")
                connection.execute("SELECT pg_reload_conf()")
            yield server
        finally:
            stop(server, process, timeout=180)


@pytest.fixture
def url(server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a container's DATABASE_URL, at the server of the test; the environment has the rest."""
    compose = yaml.safe_load((Path(__file__).parents[2] / "docker-compose.yml").read_text())
    environment = {
        name: str(value).replace(_GIVEN, PASSWORD)
        for name, value in compose["services"]["message"]["environment"].items()
    }
    monkeypatch.setenv("PGPASSWORD", environment.get("PGPASSWORD", ""))
    settings = Settings(_env_file=None, DATABASE_URL=environment["DATABASE_URL"])  # type: ignore[call-arg]
    return settings.database_url.replace("@postgres:5432/", "@/") + f"?host={server.socket_directory}"


def test_migrations_and_every_connection_know_the_password(url: str) -> None:
    upgrade(url)
    asyncio.run(_use(url))


def test_in_the_url_the_password_is_percent_encoded(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGPASSWORD")
    url = url.replace("posthouse@", f"posthouse:{quote(PASSWORD, safe='')}@")
    upgrade(url)
    asyncio.run(_use(url))


async def _use(url: str) -> None:
    database = Database(url, pool_size=8, timeout=60, name="password", replica=url)
    await database.start()
    try:
        assert await database.ping()
        for connecting in (database.read(), database.write()):
            async with connecting as connection:
                assert await connection.scalar(sa.text("SELECT current_user")) == "posthouse"
        async with database.hot() as hot:
            await hot.execute("SELECT count(*) FROM messages")
        await (await database.connect()).close()
    finally:
        await database.close()


def test_without_the_password_nobody_comes_in(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "posthouse")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url)
