"""However many dispatchers there are, a provider that takes nothing gets few retries besides what is new."""

import asyncio
import time

import pytest

from services.providers.base import Retryable
from tests.integration.ledger.rows import eventually

from .house import House
from .scripted import ScriptedProvider

_DISPATCHERS = 4
_MESSAGES = 1000
_SECONDS = 6.0


@pytest.mark.integration
async def test_dispatchers_share_what_a_provider_gets_while_it_is_down(
    house: House, provider: ScriptedProvider
) -> None:
    # Throttling opens no breaker: the budget is all there is.
    provider.scripts["down"] = [Retryable("429", "too many requests")]
    running = [await house.dispatch() for _ in range(_DISPATCHERS)]

    async def all_know() -> bool:
        return all(one.ownership.dispatchers == _DISPATCHERS for one in running)

    await eventually(all_know)
    began = time.monotonic()
    for _ in range(_MESSAGES // 50):
        await house.send(*["down"] * 50)

    async def retried() -> bool:
        return len(provider.sent) > 1.15 * _MESSAGES

    await eventually(retried)
    await asyncio.sleep(_SECONDS)
    retries = len(provider.sent) - _MESSAGES
    allowed = 0.15 * _MESSAGES + 100 + (time.monotonic() - began)
    assert retries <= allowed + 1
