"""However many dispatchers there are, a carrier's limits are kept by all of them together."""

import pytest

from tests.integration.ledger.rows import eventually

from .house import House

pytestmark = pytest.mark.integration

_DISPATCHERS = 3
_MESSAGES = 120
_RATE = 30


async def test_dispatchers_share_the_rate_of_a_provider(house: House) -> None:
    running = [await house.dispatch(provider_rates=f"scripted={_RATE}") for _ in range(_DISPATCHERS)]

    async def all_know() -> bool:
        return all(one.ownership.dispatchers == _DISPATCHERS for one in running)

    await eventually(all_know)
    ids: list[str] = []
    for number in range(_MESSAGES // 10):
        ids += await house.send(*[f"{number}.{one}" for one in range(10)])
    await house.until("sent", *ids)
    took = await house.book.value(
        "SELECT extract(epoch FROM max(start_time) - min(start_time))::float8 FROM dispatch_attempts"
    )
    # With a whole rate each they would be done in a third of a second.
    assert took >= 0.6 * (_MESSAGES - _RATE) / _RATE
    assert await house.book.value("SELECT max(attempt_count) FROM messages") == 1


async def test_dispatchers_share_the_rate_of_a_sender(house: House) -> None:
    running = [await house.dispatch(sender_rates="*=10") for _ in range(2)]

    async def all_know() -> bool:
        return all(one.ownership.dispatchers == 2 for one in running)

    await eventually(all_know)
    ids: list[str] = []
    for number in range(8):
        ids += await house.send(*[f"{number}.{one}" for one in range(5)])
    await house.until("sent", *ids)
    took = await house.book.value(
        "SELECT extract(epoch FROM max(start_time) - min(start_time))::float8 FROM dispatch_attempts"
    )
    assert took >= 0.6 * (40 - 10) / 10
    assert await house.book.rows("SELECT max(attempt_count), max(event_count) FROM messages") == [(1, 3)]
    # They are of one conversation.
    assert house.provider.bodies == [f"{number}.{one}" for number in range(8) for one in range(5)]
