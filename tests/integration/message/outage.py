"""A PostgreSQL that stops answering one database or taking writes, and serves again."""

import contextlib
from collections.abc import Iterator

import psycopg
import sqlalchemy as sa

from services.kit.errors import UnavailableError
from tests.integration.ledger.rows import Book


@contextlib.contextmanager
def database_away(url: str) -> Iterator[None]:
    """Break every connection to a database and refuse new ones, until the block ends."""
    name = sa.make_url(url).database
    maintenance = sa.make_url(url).set(database="postgres").render_as_string(hide_password=False)
    with psycopg.connect(maintenance, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        try:
            yield
        finally:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())


@contextlib.contextmanager
def read_only(url: str) -> Iterator[None]:
    """Have a whole server refuse writes, on connections that exist as well, until the block ends."""
    maintenance = sa.make_url(url).set(database="postgres").render_as_string(hide_password=False)
    with psycopg.connect(maintenance, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        connection.execute("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
            connection.execute("SELECT pg_reload_conf()")


async def answers_again(book: Book) -> bool:
    """Tell whether a book's connections have recovered from the outage."""
    try:
        return bool(await book.value("SELECT true"))
    except UnavailableError:
        return False
