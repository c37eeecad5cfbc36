"""The linker of tenants, where the ledger fails while the register is tried out."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from services.conversation import contacts
from services.conversation.contacts import Claimed, Push
from services.conversation.monitor import Failed, Unknown
from services.conversation.tenants import AskingPolicy, TenantLinker
from services.kit.breaker import HALF_OPEN, Breaker, BreakerPolicy
from services.kit.errors import UnavailableError

FIRST, SECOND, THIRD = "+15550000001", "+15550000002", "+15550000003"


class _Ledger:
    """Has three contacts to ask about; settling the first fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settled: list[str] = []
        self.failed = asyncio.Event()
        monkeypatch.setattr(contacts, "claim_pushes", self._no_pushes)
        monkeypatch.setattr(contacts, "claim", self._claim)
        monkeypatch.setattr(contacts, "settle", self._settle)

    @contextlib.asynccontextmanager
    async def hot(self) -> AsyncIterator[None]:
        yield None

    async def _no_pushes(self, *_: Any, **__: Any) -> Sequence[Push]:
        return []

    async def _claim(self, *_: Any, **__: Any) -> Sequence[Claimed]:
        return [Claimed(address, None, 0, 0) for address in (FIRST, SECOND, THIRD)]

    async def _settle(self, _connection: Any, address: str, **_: Any) -> None:
        self.settled.append(address)
        if address == FIRST:
            self.failed.set()
            raise UnavailableError("PostgreSQL is away")


class _Monitor:
    """Answers the first at once, the second when the first was settled, and the third not at all."""

    def __init__(self, ledger: _Ledger) -> None:
        self._ledger = ledger

    async def find(self, address: str, _original: str | None) -> Unknown | Failed:
        if address != FIRST:
            await self._ledger.failed.wait()
        if address == THIRD:
            raise RuntimeError("what nobody has foreseen")
        await asyncio.sleep(0.01 if address == SECOND else 0)
        return Unknown()


async def test_what_fails_of_one_contact_costs_the_others_and_the_breaker_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    breaker = Breaker(
        BreakerPolicy(probes=10, cool_down=0.0), clock=lambda: 0.0, on_change=lambda _state: None
    )
    breaker.trip()
    assert breaker.state == HALF_OPEN
    ledger = _Ledger(monkeypatch)
    database: Any = ledger
    monitor: Any = _Monitor(ledger)
    linker = TenantLinker(database, monitor, breaker, AskingPolicy())
    with pytest.raises(UnavailableError):
        await linker.work()
    assert ledger.settled == [FIRST, SECOND]
    # Two of its ten probes had an answer: there are eight left, those that broke off among them.
    assert breaker.admit(10) == 8
