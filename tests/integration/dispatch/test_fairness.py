"""Lanes: a one-time password does not wait for the newsletter, and the newsletter arrives in the end."""

import pytest

from tests.integration.ledger.rows import eventually

from .house import House
from .scripted import ScriptedProvider

pytestmark = pytest.mark.integration

_BATCH = 5


async def _fill(house: House, priority: str, envelopes: int) -> list[str]:
    """Send as many envelopes, each a whole batch, and return the ids."""
    ids: list[str] = []
    for number in range(envelopes):
        bodies = [f"{priority} {number}"] * _BATCH
        ids += await house.send(*bodies, priority=f"PRIORITY_{priority.upper()}")
    return ids


def _lanes_of(provider: ScriptedProvider) -> list[str]:
    """Return the lane of each batch the provider got."""
    return [batch[0].body.split()[0] for batch in provider.batches]


async def test_high_waits_for_one_batch_of_a_full_low_lane_at_most(
    house: House, provider: ScriptedProvider
) -> None:
    low = await _fill(house, "low", 20)
    await house.until_published(20)
    provider.gate.clear()
    running = await house.dispatch(dispatch_concurrency=1, dispatch_batch_size=_BATCH)

    async def low_is_under_way() -> bool:
        return len(provider.batches) == 1

    await eventually(low_is_under_way)
    high = await _fill(house, "high", 1)

    async def high_is_here() -> bool:
        return bool(running.dispatcher._lanes._waiting["high"])

    await eventually(high_is_here)
    provider.gate.set()
    await house.until("sent", *high, *low)
    # The batch that was under way, and one more at most.
    assert _lanes_of(provider).index("high") <= 2
    assert len(provider.batches) == 21


async def test_low_gets_its_turn_while_high_is_full(house: House, provider: ScriptedProvider) -> None:
    high = await _fill(house, "high", 20)
    low = await _fill(house, "low", 1)
    await house.until_published(21)
    provider.gate.clear()
    running = await house.dispatch(dispatch_concurrency=1, dispatch_batch_size=_BATCH)

    async def both_are_here() -> bool:
        return bool(provider.batches) and (
            "low" in _lanes_of(provider) or bool(running.dispatcher._lanes._waiting["low"])
        )

    await eventually(both_are_here)
    provider.gate.set()
    await house.until("sent", *high, *low)
    # A round has eight turns.
    assert _lanes_of(provider).index("low") <= 8
