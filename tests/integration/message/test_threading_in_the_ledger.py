"""Pairs that write each other's address in many ways, through the transaction of intake."""

import random
from dataclasses import replace

import pytest
import sqlalchemy as sa

from services.kit.ids import new_id
from services.ledger.accept import Intake, accept
from services.ledger.database import Database
from services.ledger.tables import conversations
from tests.unit.message.test_threading_of_many import make_pairs, talk

pytestmark = pytest.mark.integration


async def test_pairs_share_their_conversation_in_the_ledger(database: Database) -> None:
    pairs = make_pairs(random.Random(5))[1:200]  # noqa: S311 - no secrets
    drafts = [draft for number, (pair, write) in enumerate(pairs) for draft in talk(pair, write, number)]
    items = [Intake(new_id(), replace(draft, source=draft.source or "test")) for draft in drafts]
    async with database.hot() as connection:
        await accept(connection, items, republish_after=600)
    async with database.read() as reader:
        counted = sa.select(conversations.c.message_count, conversations.c.inbound_count)
        found = (await reader.execute(counted)).all()
    assert [tuple(row) for row in found] == [(2, 1)] * len(pairs)
