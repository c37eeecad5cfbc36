"""Ledgers with keys: as many views of one database as a test needs."""

import base64
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import psycopg
import pytest
from psycopg import sql

from services.kit.keyring import Keyring, new_key, parse_keys
from services.ledger.database import Database

KEYS = parse_keys(" ".join(new_key(key_id) for key_id in ("one", "two")))

# Words that nothing else in a database has, long enough to be told from random base64.
BODY = "zqbodyzqbodyzqbodyzq"
SUBJECT = "zqsubjectzqsubjectzq"
HTML = "zqhtmlzqhtmlzqhtmlzq"
MEDIA = b"zqmediazqmediazqmediazq"
LABEL = "zqlabelzqlabelzqlabelzq"

OpenDatabase = Callable[..., Any]


def ring(*key_ids: str, seals: bool = True) -> Keyring:
    """Return a keyring of some of the keys, in this order."""
    return Keyring({key_id: KEYS[key_id] for key_id in key_ids}, seals=seals)


def key_text(*key_ids: str) -> str:
    """Return some of the keys as the setting has them."""
    return " ".join(f"{key_id}:{base64.b64encode(KEYS[key_id]).decode()}" for key_id in key_ids)


def everything(database_url: str) -> str:
    """Return the text of every row of every table, and where bytes are in it, these once more in hex."""
    with psycopg.connect(database_url) as connection:
        tables = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
        ).fetchall()
        rows = [
            row[0]
            for (table,) in tables
            for row in connection.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(table)))
        ]
    assert rows
    return "\n".join(rows)


def found_in(dump: str, *canaries: str | bytes) -> list[str]:
    """Return those of the canaries that are somewhere in a dump, as they are, in hex or in base64."""
    found = []
    for canary in canaries:
        plain = canary.encode() if isinstance(canary, str) else canary
        # Of base64 the middle: the ends depend on the neighbours.
        shapes = [plain.decode(), plain.hex()]
        shapes += [base64.b64encode(b"x" * shift + plain).decode()[4:-4] for shift in range(3)]
        found += [plain.decode()] if any(shape in dump for shape in shapes) else []
    return found


@pytest.fixture
async def open_database(database_url: str) -> AsyncIterator[OpenDatabase]:
    """Return a function that opens the test's database with a keyring."""
    async with AsyncExitStack() as stack:

        async def opened(keyring: Keyring) -> Database:
            database = Database(database_url, pool_size=10, timeout=60, name="test", keyring=keyring)
            await database.start()
            stack.push_async_callback(database.close)
            return database

        yield opened
