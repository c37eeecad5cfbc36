"""What a batch does with the turns of senders when its claim fails."""

import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.dispatch import batch
from services.dispatch.sender_rates import SenderRates
from services.dispatch.slots import Slots
from services.kit.errors import UnavailableError
from services.ledger.waiting import Waiting
from tests.unit.kit.test_breaker import Time


async def test_the_turns_of_a_claim_that_fails_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise UnavailableError("the database is away")

    @contextlib.asynccontextmanager
    async def hot() -> AsyncIterator[None]:
        yield

    monkeypatch.setattr(batch, "claim", fail)
    senders = SenderRates({"*": 3.0}, clock=Time())
    means: Any = SimpleNamespace(
        gate=SimpleNamespace(senders=senders), database=SimpleNamespace(hot=hot), lease=1, republish_after=1
    )
    waiting = [Waiting(f"m{number}", "us", f"c{number}") for number in range(9)]
    turns = senders.choose(waiting, 9)
    assert len(turns.ids) == 3
    with pytest.raises(UnavailableError):
        await batch.Batch(means, cast("Slots", None), (), 1)._claim("event", turns)
    assert senders.choose(waiting, 9).ids == turns.ids
