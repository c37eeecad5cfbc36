"""Brings a database to a revision of the schema, one process at a time."""

from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

# Any constant will do; every migrating process must use the same one.
_LOCK_KEY = 0x706F7374

_SCRIPTS = Path(__file__).parent / "migrations"


def upgrade(dsn: str, revision: str = "head") -> None:
    """Upgrade the schema; waits while another process is migrating the same database."""
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
    engine = sa.create_engine(sa.make_url(dsn).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK_KEY})
            connection.commit()
            try:
                migrate(alembic_config(connection))
            finally:
                connection.rollback()
                connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK_KEY})
                connection.commit()
    finally:
        engine.dispose()
