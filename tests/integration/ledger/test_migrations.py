"""Migrations go up and down, agree with the tables, and never run twice at the same time."""

import asyncio
import re
import shutil
import sys
import uuid
from collections import defaultdict
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from services.ledger import migrate
from services.ledger.migrate import EncodingError, downgrade, upgrade
from services.ledger.tables import metadata

from .rows import eventually

pytestmark = pytest.mark.integration

_ROOT = Path(__file__).parents[3]
_LOCK_KEY = 0x706F7374

# What a database holds, as text: columns, constraints, indexes and the storage options of tables.
_CATALOGUE = """
SELECT 'column', attrelid::regclass::text, attname::text, format_type(atttypid, atttypmod),
  attnotnull::text || ' ' || coalesce(pg_get_expr(adbin, adrelid), '')
FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE attnum > 0 AND NOT attisdropped AND attrelid IN (SELECT oid FROM kept)
UNION ALL
SELECT 'constraint', conrelid::regclass::text, conname::text, pg_get_constraintdef(oid), ''
FROM pg_constraint WHERE conrelid IN (SELECT oid FROM kept)
UNION ALL
SELECT 'index', tablename::text, indexname::text, indexdef, '' FROM pg_indexes
WHERE schemaname = 'public' AND tablename <> 'alembic_version'
UNION ALL
SELECT 'options', relname::text, '', array_to_string(reloptions, ','), '' FROM kept
"""


def _engine(url: str) -> sa.Engine:
    return sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)


def _catalogue(url: str) -> list[tuple[str, ...]]:
    kept = (
        "WITH kept AS (SELECT * FROM pg_class WHERE relkind = 'r'"
        " AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version')"
    )
    with psycopg.connect(url) as connection:
        rows = connection.execute((kept + _CATALOGUE).encode()).fetchall()
    return sorted(tuple(str(cell) for cell in row) for row in rows)


def test_migrations_and_tables_agree(database_url: str, empty_database_url: str) -> None:
    with _engine(database_url).connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []
    # Alembic looks at neither storage options nor the conditions of indexes.
    metadata.create_all(_engine(empty_database_url))
    assert _catalogue(empty_database_url) == _catalogue(database_url)


def test_no_column_has_the_tables_of_every_message_read_widely(database_url: str) -> None:
    # One column with the usual statistics has ANALYZE read ten times as many rows for all of them.
    with psycopg.connect(database_url) as connection:
        found = connection.execute(
            "SELECT attrelid::regclass::text, attname FROM pg_attribute"
            " WHERE attnum > 0 AND NOT attisdropped AND attrelid = ANY(%s::text[]::regclass[])"
            " AND coalesce(nullif(attstattarget, -1), 100) > 20",
            (["messages", "message_events", "dispatch_attempts", "provider_events", "webhook_logs"],),
        ).fetchall()
    assert found == []


def test_down_and_up_again_ends_where_it_began(database_url: str) -> None:
    before = _catalogue(database_url)
    downgrade(database_url, "base")
    assert _catalogue(database_url) == []
    upgrade(database_url)
    assert _catalogue(database_url) == before
    upgrade(database_url)  # nothing is left to do


# Connections that have asked for the lock and do not have it.
_WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%advisory%'
"""

_CONCURRENT = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "1", None
def upgrade():
    op.create_table("things", sa.Column("id", sa.Integer()))
    with op.get_context().autocommit_block():
        op.create_index("things_id", "things", ["id"], postgresql_concurrently=True)
"""


async def test_an_index_beside_the_traffic_is_not_held_up_by_another_migration(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "versions").mkdir()
    (tmp_path / "versions" / "1.py").write_text(_CONCURRENT)
    shutil.copy(_ROOT / "services/ledger/migrations/env.py", tmp_path)
    monkeypatch.setattr(migrate, "_SCRIPTS", tmp_path)
    async with await psycopg.AsyncConnection.connect(empty_database_url, autocommit=True) as connection:

        async def waiting() -> bool:
            return await (await connection.execute(_WAITING)).fetchone() == (2,)

        await connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK_KEY,))
        # A connection that waits for a lock within a statement is one that the index would wait for.
        both = asyncio.gather(*(asyncio.to_thread(upgrade, empty_database_url) for _ in range(2)))
        await eventually(waiting)
        await connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK_KEY,))
        await asyncio.wait_for(both, 60)
        cursor = await connection.execute("SELECT indexname::text FROM pg_indexes WHERE tablename = 'things'")
        assert await cursor.fetchall() == [("things_id",)]


async def test_two_processes_migrate_one_after_the_other(database_url: str, empty_database_url: str) -> None:
    code = f"from services.ledger.migrate import upgrade; upgrade({empty_database_url!r})"
    async with await psycopg.AsyncConnection.connect(empty_database_url, autocommit=True) as connection:

        async def waiting() -> bool:
            return await (await connection.execute(_WAITING)).fetchone() == (2,)

        await connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK_KEY,))
        processes = [
            await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=_ROOT) for _ in range(2)
        ]
        await eventually(waiting)
        assert _catalogue(empty_database_url) == []
        await connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK_KEY,))
        assert [await asyncio.wait_for(process.wait(), 60) for process in processes] == [0, 0]
    assert _catalogue(empty_database_url) == _catalogue(database_url)


_TABLE = re.compile(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)", re.IGNORECASE)
_INDEX = re.compile(
    r"CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY)(?:IF NOT EXISTS )?(?:\w+ )?ON (?:ONLY )?(\w+)", re.IGNORECASE
)
_VERSION = re.compile(r"UPDATE alembic_version SET version_num='(\w+)'")

# The last revision before this was asked of them.
_BLOCKING_UNTIL = "0017"


def test_an_index_of_a_table_in_use_is_built_beside_the_traffic(empty_database_url: str) -> None:
    """Write `with op.get_context().autocommit_block(): op.create_index(…, postgresql_concurrently=True)`."""
    done: defaultdict[str, str] = defaultdict(str)
    current = ""

    def note(_connection: object, _cursor: object, statement: str, *_others: Any) -> None:
        nonlocal current
        current += f"{statement};\n"
        if found := _VERSION.search(statement):
            done[found[1]], current = current, ""

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        upgrade(empty_database_url)
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    blocking = {
        revision: [table for table in _INDEX.findall(sql) if table not in _TABLE.findall(sql)]
        for revision, sql in done.items()
    }
    # It sees those of before, and that a table of its own is in nobody's use.
    assert blocking["0016"] == ["message_events"]
    assert blocking["0010"] == []
    assert {name: found for name, found in blocking.items() if name > _BLOCKING_UNTIL and found} == {}
    assert _INDEX.findall("create index concurrently a on messages (id)") == []


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_cannot_hold_every_text_is_refused(empty_database_url: str, encoding: str) -> None:
    name = f"posthouse_{encoding.lower()}_{uuid.uuid4().hex}"
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0".encode()
        )
        try:
            url = sa.make_url(empty_database_url).set(database=name)
            with pytest.raises(
                EncodingError, match=f"encoding is {encoding}: create it with ENCODING 'UTF8'"
            ):
                upgrade(url.render_as_string(hide_password=False))
        finally:
            connection.execute(f"DROP DATABASE {name}".encode())
