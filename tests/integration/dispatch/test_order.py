"""Messages of one conversation reach the provider in the order they were accepted."""

import asyncio
from collections.abc import Sequence
from functools import partial

import pytest

from services.providers.base import Accepted, OutboundMessage, Outcome, Rejected, Retryable, UnbuildableError
from tests.integration.ledger.rows import eventually

from .house import House, RunningDispatcher
from .scripted import ScriptedProvider

pytestmark = pytest.mark.integration

_CONTACTS = [f"+1555987100{number}" for number in range(3)]


class Wobbly(ScriptedProvider):
    """Takes small batches, every second one of them more slowly than the others."""

    batch_size = 7

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.under_way = 0

    async def send(self, messages: Sequence[OutboundMessage]) -> list[Outcome]:
        self.calls += 1
        self.under_way += 1
        await self.gate.wait()
        await asyncio.sleep(0.02 if self.calls % 2 else 0.001)
        self.sent += messages
        self.under_way -= 1
        return [
            Rejected("unfit") if message.body == "refused" else Accepted(f"P-{message.id}")
            for message in messages
        ]


class TestOrder:
    @pytest.fixture
    async def provider(self) -> Wobbly:
        return Wobbly()

    @pytest.mark.parametrize("rates", ["", "scripted=100000"])
    async def test_batches_under_way_at_once_keep_it(
        self, house: House, provider: Wobbly, rates: str
    ) -> None:
        running = await house.dispatch(dispatch_concurrency=4, dispatch_batch_size=3, provider_rates=rates)
        # However slowly it is sent, several batches go out at once.
        provider.gate.clear()
        ids: dict[str, list[str]] = {contact: [] for contact in _CONTACTS}
        alone = []
        for number in range(30):
            for contact in _CONTACTS:
                ids[contact] += await house.send(*["in a row"] * 3, recipient=contact)
            alone += await house.send("alone", recipient=f"+15559872{number:03d}")
            if number == 1:
                await eventually(lambda: _at_once(provider))
                provider.gate.set()
        await house.until("sent", *alone, *(one for many in ids.values() for one in many))
        for contact, expected in ids.items():
            assert [message.id for message in provider.sent if message.recipient == contact] == expected
        await eventually(lambda: _has_left(running))
        await house.until_outbox_is_empty()

    @pytest.mark.parametrize("rates", ["", "scripted=100000"])
    async def test_two_dispatchers_keep_it_together(self, house: House, provider: Wobbly, rates: str) -> None:
        options = {"dispatch_concurrency": 2, "dispatch_batch_size": 1, "provider_rates": rates}
        both = [await house.dispatch(**options) for _ in range(2)]

        async def know_each_other() -> bool:
            return all(one.ownership.company for one in both)

        await eventually(know_each_other)
        provider.gate.clear()
        ids: list[str] = []
        owners = 0
        # One hangs, and both have claimed those that follow.
        while owners < 2:
            ids += await house.send(f"{len(ids)}", recipient=_CONTACTS[0])
            await house.until("sending", *ids)
            owners = await house.book.value("SELECT count(DISTINCT owner) FROM outbox WHERE owner > 0")
        (other,) = await house.send("other", recipient=_CONTACTS[1])
        await house.until("sending", other)
        await eventually(lambda: _under_way(provider, 2))
        provider.gate.set()
        ids += await house.send(*["in a row"] * 20, recipient=_CONTACTS[0])
        await house.until("sent", *ids, other)
        assert [message.id for message in provider.sent if message.recipient == _CONTACTS[0]] == ids
        for one in both:
            await eventually(partial(_has_left, one))

    async def test_a_conversation_that_hangs_leaves_slots_for_others(
        self, house: House, provider: Wobbly
    ) -> None:
        running = await house.dispatch(dispatch_concurrency=2, dispatch_batch_size=1)
        provider.gate.clear()
        ids = []
        for number in range(3):
            ids += await house.send(f"{number}", recipient=_CONTACTS[0])
        await house.until("sending", *ids)
        # One hangs, two wait for it, and there is a slot left.
        (other,) = await house.send("other", recipient=_CONTACTS[1])
        await house.until("sending", other)
        assert provider.under_way <= 2
        provider.gate.set()
        await house.until("sent", *ids, other)
        assert [message.body for message in provider.sent if message.recipient == _CONTACTS[0]] == list("012")
        # Those that stood in go again with the next work they get.
        for number in range(4):
            await house.until("sent", *await house.send(f"{number}", recipient=_CONTACTS[2]))
        assert len(running.dispatcher._slots._busy) <= 4


async def _at_once(provider: Wobbly) -> bool:
    return provider.under_way > 1


async def _has_left(running: RunningDispatcher) -> bool:
    """Tell whether nobody waits for what a dispatcher had any more: it takes note after it has settled it."""
    return not running.dispatcher._means.order._last


async def _under_way(provider: Wobbly, count: int) -> bool:
    assert provider.under_way <= count
    return provider.under_way == count


class TestFailing:
    async def test_what_waited_for_a_failure_that_opened_the_breaker_costs_no_attempt(
        self, house: House, provider: ScriptedProvider
    ) -> None:
        await house.dispatch(breaker_failures=1, breaker_cool_down=600.0, dispatch_batch_size=1)
        provider.scripts = {"first": [Retryable("503")]}
        provider.gate.clear()
        (first,) = await house.send("first")
        (second,) = await house.send("second")
        await house.until("sending", first, second)
        provider.gate.set()
        await house.until("pending", first, second)
        assert provider.bodies == ["first"]
        assert not await house.book.rows("SELECT FROM dispatch_attempts WHERE message_id = %s", second)


class Picky(ScriptedProvider):
    """Can make no request of one message, and says so before anything is sent."""

    async def send(self, messages: Sequence[OutboundMessage]) -> list[Outcome]:
        for message in messages:
            if message.body == "poison":
                raise UnbuildableError(message.id, "KeyError")
        return await super().send(messages)


class TestPoison:
    @pytest.fixture
    async def provider(self) -> Picky:
        return Picky()

    async def test_a_message_that_cannot_be_built_leaves_its_neighbours_alone(
        self, house: House, provider: Picky
    ) -> None:
        first, poison, last = await house.send("first", "poison", "last")
        await house.dispatch()
        await house.until("sent", first, last)
        await house.until("failed", poison)
        assert provider.bodies == ["first", "last"]
        assert await house.book.rows("SELECT message_id::text, reason, error_code FROM dead_letters") == [
            (poison, "rejected", "unbuildable")
        ]
        assert await house.book.story(poison) == ["accepted", "sending", "failed"]
