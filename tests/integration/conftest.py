"""A ledger of the test's own, a book over it, and a connection to the broker."""

from collections.abc import AsyncIterator

import pytest

from services.kit.bus import Bus, BusConfig
from services.ledger.database import Database
from tests.integration.ledger.rows import Book


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, pool_size=10, timeout=60, name="test")
    await database.start()
    yield database
    await database.close()


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    """A connection of the test's own to the broker."""
    bus = Bus(BusConfig([nats_url], "test"))
    await bus.start()
    await bus.wait_ready()
    yield bus
    await bus.close()


@pytest.fixture
def book(database: Database) -> Book:
    return Book(database)
