"""What a process holds for several busy endpoints at the same time: none is left out for the others."""

from collections import Counter, deque

import pytest

from services.conversation import event_deliveries
from services.conversation.event_deliveries import Claimed, Tried
from services.ledger.database import Database
from tests.integration.ledger.rows import Book
from tests.integration.subscriptions.conftest import Desk, OpenDesk

pytestmark = pytest.mark.integration

_NOTE = """
INSERT INTO event_deliveries (id, subscription_id, message_id, sequence, event_type, event_time,
  conversation_id, state, due_time, create_time)
SELECT gen_random_uuid(), s.id, gen_random_uuid(), 1, 'received', now(), gen_random_uuid(), 'pending',
  now() - interval '1 minute', now()
FROM subscriptions s, generate_series(1, %s) WHERE s.id = ANY(%s::uuid[])
"""


async def subscribe(desk: Desk, book: Book, count: int, *, events: int) -> list[str]:
    """Make subscriptions to fast endpoints, each with as many events in conversations of their own."""
    made = [(await desk.keeper.create("http://127.0.0.1:9/", [], ""))[0].id for _ in range(count)]
    await book.rows(_NOTE, events, made)
    await book.rows("ANALYZE event_deliveries")
    return made


async def claims(desk: Desk, database: Database, count: int) -> Counter[str]:
    """Claim time and again for endpoints that answer at once; return how many each was posted.

    What is claimed is taken while the claim after the next is made: there is always some under way.
    """
    posted: Counter[str] = Counter()
    under_way: deque[list[Claimed]] = deque()
    for _ in range(count):
        claimed = await desk.worker._claim()
        for each in claimed:
            desk.worker._lanes[each.subscription_id].held += 1
            desk.worker._lanes[each.subscription_id].answered(0.001)
        posted.update(each.subscription_id for each in claimed)
        under_way.append(claimed)
        if len(under_way) == 2:
            done = under_way.popleft()
            async with database.hot() as connection:
                taken = [(each, Tried(200, None, 1)) for each in done]
                await event_deliveries.settle_delivered(connection, taken)
            for each in done:
                desk.worker._lanes[each.subscription_id].held -= 1
    return posted


# Six endpoints, and more of them than there is room for.
@pytest.mark.parametrize(("endpoints", "events"), [(6, 1000), (48, 300)])
async def test_busy_endpoints_get_alike(
    book: Book, desk: OpenDesk, database: Database, endpoints: int, events: int
) -> None:
    one = desk(start=False)
    made = await subscribe(one, book, endpoints, events=events)
    posted = await claims(one, database, 16)
    assert set(posted) == set(made)
    assert min(posted.values()) > 0.7 * max(posted.values())


async def test_an_endpoint_that_was_quiet_finds_room_beside_busy_ones(
    book: Book, desk: OpenDesk, database: Database
) -> None:
    one = desk(start=False)
    await subscribe(one, book, 4, events=2000)
    await claims(one, database, 6)
    # They have stopped to answer: what is claimed for them stays.
    while claimed := await one.worker._claim():
        for each in claimed:
            one.worker._lanes[each.subscription_id].held += 1
    (late,) = await subscribe(one, book, 1, events=100)
    assert {each.subscription_id for each in await one.worker._claim()} == {late}


async def test_what_was_cut_short_goes_on_where_it_ended(
    book: Book, desk: OpenDesk, database: Database
) -> None:
    one = desk(start=False)
    await subscribe(one, book, 40, events=20)
    posted = await claims(one, database, 60)
    assert set(posted.values()) == {20}
