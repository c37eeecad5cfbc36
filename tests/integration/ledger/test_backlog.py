"""What the outbox is measured to hold."""

from dataclasses import replace
from typing import Any

import pytest

from services.kit.ids import new_id
from services.ledger.backlog import QUEUES, count_far, measure
from services.ledger.database import Database

pytestmark = pytest.mark.integration

_INSERT = """
INSERT INTO outbox (id, subject, message_ids, create_time, due_time, publish_count, owner)
VALUES (%s, %s, %s::uuid[], now() - make_interval(secs => %s), now() + make_interval(secs => %s), %s, %s)
"""


async def _put(
    database: Database,
    subject: str,
    *,
    ids: int,
    age: float,
    due: float,
    published: int = 0,
    owner: Any = None,
) -> None:
    async with database.hot() as connection:
        message_ids = [new_id() for _ in range(ids)]
        await connection.execute(_INSERT, (new_id(), subject, message_ids, age, due, published, owner))


async def test_counts_messages_by_what_they_wait_for(database: Database) -> None:
    empty = await measure(database, republish_after=5)
    assert (empty.depths, empty.age) == (dict.fromkeys(QUEUES, 0), 0)
    sms = "posthouse.dispatch.sms"
    await _put(database, sms, ids=3, age=1, due=4)
    await _put(database, sms, ids=2, age=1, due=20, owner=7)
    await _put(database, sms, ids=4, age=900, due=900)
    await _put(database, f"{sms}.inquiry", ids=1, age=1, due=4)
    await _put(database, "posthouse.event.message", ids=6, age=1, due=4)
    measured = await measure(database, republish_after=5)
    assert measured.depths == {
        "dispatch": 3, "sending": 2, "later": 4, "inquiry": 1, "events": 6, "dead_letters": 0,
    }  # fmt: skip
    assert measured.age == 0


async def test_age_is_that_of_the_oldest_overdue_row(database: Database) -> None:
    sms = "posthouse.dispatch.sms"
    # The broker is away: nobody sweeps.
    await _put(database, sms, ids=1, age=105, due=-100)
    assert 100 <= (await measure(database, republish_after=5)).age < 130
    # Swept four times since it was due, 200 seconds ago; the next time is 10 seconds away.
    await _put(database, sms, ids=1, age=900, due=-150, published=4)
    assert 199 <= (await measure(database, republish_after=5)).age < 230
    # Being sent.
    await _put(database, sms, ids=1, age=5000, due=10, published=4, owner=7)
    assert (await measure(database, republish_after=5)).age < 230


async def test_what_is_far_off_is_not_counted_each_time(database: Database) -> None:
    sms = "posthouse.dispatch.sms"
    await _put(database, sms, ids=4, age=900, due=900)
    await _put(database, sms, ids=2, age=1, due=900, owner=7)
    await _put(database, sms, ids=1, age=1, due=20)
    far = await count_far(database, republish_after=5)
    assert far.depths == {"later": 4}
    measured = await measure(database, republish_after=5, far=replace(far, depths={"later": 40}))
    assert (measured.depths["later"], measured.depths["sending"]) == (41, 2)
