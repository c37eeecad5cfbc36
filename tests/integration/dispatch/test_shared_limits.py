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
