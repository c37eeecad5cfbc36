"""All search rows made again, by the command's own function."""

import pytest
import sqlalchemy as sa

from services.conversation import indexing
from services.conversation.rebuilding import rebuild_search
from services.kit.config import Settings
from services.ledger.database import Database
from services.ledger.tables import message_search

from .conftest import Seed

pytestmark = pytest.mark.integration


async def _rows(database: Database) -> list[tuple[str, str]]:
    async with database.read() as connection:
        statement = sa.select(message_search.c.message_id, message_search.c.vector)
        return [
            (row.message_id, row.vector) for row in await connection.execute(statement.order_by("message_id"))
        ]


async def test_a_rebuild_makes_every_row_and_no_other(
    database: Database, database_url: str, seed: Seed, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.model_validate({"database_url": database_url})
    thread = await seed.conversation(tenant_id="acme")
    made = [await seed.message(thread, body=f"hello {number}") for number in range(5)]
    monkeypatch.setattr(indexing.rebuild_batch, "__kwdefaults__", {"limit": 2})
    assert await rebuild_search(settings, resume=False, report=print) == 5
    expected = await _rows(database)
    assert [message for message, _ in expected] == made
    async with database.write() as connection:
        await connection.execute(sa.delete(message_search).where(message_search.c.message_id == made[0]))
        await connection.execute(sa.update(message_search).values(vector=sa.func.to_tsvector("wrong")))
        await connection.execute(
            sa.text("INSERT INTO message_search SELECT gen_random_uuid(), :thread, ''"), {"thread": thread}
        )
    assert await rebuild_search(settings, resume=True, report=print) == 0
    assert await rebuild_search(settings, resume=False, report=print) == 5
    assert await _rows(database) == expected
