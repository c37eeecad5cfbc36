"""A ledger of the test's own, and a book over it."""

from collections.abc import AsyncIterator

import pytest

from services.ledger.database import Database
from tests.integration.ledger.rows import Book


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, pool_size=10, timeout=60, name="test")
    await database.start()
    yield database
    await database.close()


@pytest.fixture
def book(database: Database) -> Book:
    return Book(database)
