"""Brings a database to a revision of the schema, one process at a time."""

import time
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

# Any constant will do; every migrating process must use the same one.
_LOCK_KEY = 0x706F7374

# Seconds between two looks at whether another process has ended its migration.
_PAUSE = 0.2

_SCRIPTS = Path(__file__).parent / "migrations"


class EncodingError(sa.exc.SQLAlchemyError):
    """The database does not keep text as UTF-8, so that it could not hold every message."""

    def __init__(self, encoding: str) -> None:
        super().__init__(
            f"the database's encoding is {encoding}: create it with ENCODING 'UTF8' TEMPLATE template0"
        )


def upgrade(dsn: str, revision: str = "head") -> None:
    """Upgrade the schema; waits while another process is migrating the same database.

    Raises EncodingError.
    """
    _run(dsn, lambda config: command.upgrade(config, revision))


def downgrade(dsn: str, revision: str) -> None:
    """Downgrade the schema; data of what is dropped is lost."""
    _run(dsn, lambda config: command.downgrade(config, revision))


def alembic_config(connection: sa.Connection) -> Config:
    """Return the configuration of Alembic's commands for one connection."""
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes["connection"] = connection
    return config


def _run(dsn: str, migrate: Callable[[Config], None]) -> None:
    url = sa.make_url(dsn).set(drivername="postgresql+psycopg")
    # Of a database in SQL_ASCII, psycopg otherwise reads bytes, which SQLAlchemy cannot.
    engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={"client_encoding": "utf8"})
    # Nobody waits within a transaction or a statement: an index that is built concurrently waits for these.
    waiting = engine.execution_options(isolation_level="AUTOCOMMIT")
    try:
        with waiting.connect() as guard, engine.connect() as connection:
            encoding = guard.scalar(sa.text("SHOW server_encoding"))
            if encoding != "UTF8":
                raise EncodingError(encoding)
            while not guard.scalar(sa.text("SELECT pg_try_advisory_lock(:key)"), {"key": _LOCK_KEY}):
                time.sleep(_PAUSE)
            migrate(alembic_config(connection))
    finally:
        engine.dispose()
