"""What a batch leaves behind when the grace ends in the middle of it."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from services.dispatch.batch import Batch
from services.dispatch.order import Order
from services.kit.errors import UnavailableError
from services.kit.fault_points import FaultPoints
from services.ledger.claims import ClaimedMessage

from .samples import claimed

_MESSAGES = [claimed(id=f"m{n}", conversation_id=f"c{n}") for n in range(3)]


class _Postman:
    """Sends one message after the other."""

    async def send(
        self,
        messages: Sequence[ClaimedMessage],
        *,
        may_send: Callable[[Sequence[ClaimedMessage]], bool],
        **_context: Any,
    ) -> AsyncIterator[tuple[Sequence[ClaimedMessage], list[Any]]]:
        for message in messages:
            if not may_send([message]):
                return
            yield [message], [SimpleNamespace(id=message.id, word="sent")]

    def withhold(self, messages: Sequence[ClaimedMessage]) -> list[Any]:
        return [SimpleNamespace(id=message.id, word="withheld") for message in messages]

    def release(self, messages: Sequence[ClaimedMessage]) -> list[Any]:
        return [SimpleNamespace(id=message.id, word="released") for message in messages]


class _Settler:
    """Stores settlements, but for those of messages that `fails` names: there the database is away."""

    def __init__(self, fails: str) -> None:
        self._fails = fails
        self.failed = asyncio.Event()
        self.stored: list[tuple[str, str]] = []
        self.closed: list[str] = []

    async def settle(
        self, _messages: Any, settlements: Sequence[Any], *, settled_outbox_ids: Sequence[str], owner: int
    ) -> None:
        assert owner == 1
        if any(one.id == self._fails for one in settlements):
            self.failed.set()
            raise UnavailableError("away")
        self.stored += [(one.id, one.word) for one in settlements]
        self.closed += settled_outbox_ids


def _batch(settler: _Settler) -> Any:
    means = SimpleNamespace(
        postman=_Postman(),
        settler=settler,
        ownership=SimpleNamespace(holds=lambda _owner: True),
        gate=SimpleNamespace(still_allows=lambda *_: True),
        order=Order(),
        faults=FaultPoints(),
    )
    batch: Any = Batch(means, SimpleNamespace(late=False), [], 1)  # type: ignore[arg-type]
    batch._lease.begin(["box"], ends_at=math.inf)
    return batch


async def _send(batch: Any) -> bool:
    with batch._means.order.enter(_MESSAGES) as parts:
        return bool(await batch._send(parts, ["box"]))


async def test_the_last_settlement_closes_the_envelope() -> None:
    settler = _Settler("")
    assert await _send(_batch(settler))
    assert settler.stored == [("m0", "sent"), ("m1", "sent"), ("m2", "sent")]
    assert settler.closed == ["box"]


# The envelope is what brings back a message whose settlement was never stored.
@pytest.mark.parametrize(
    ("fails", "stored"),
    [
        ("m0", [("m1", "released"), ("m2", "released")]),
        ("m1", [("m0", "sent"), ("m2", "released")]),
        ("m2", [("m0", "sent"), ("m1", "sent")]),
    ],
)
async def test_an_envelope_with_a_settlement_that_was_not_stored_stays_open(
    fails: str, stored: list[tuple[str, str]]
) -> None:
    settler = _Settler(fails)
    batch = _batch(settler)
    sending = asyncio.create_task(_send(batch))
    await asyncio.wait_for(settler.failed.wait(), 60)
    batch._slots.late = True
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert settler.stored == stored
    assert settler.closed == []


async def test_what_no_provider_was_given_goes_back_and_closes_the_envelope() -> None:
    settler = _Settler("")
    batch = _batch(settler)
    batch._slots.late = True
    assert not await _send(batch)
    assert settler.stored == [("m0", "released"), ("m1", "released"), ("m2", "released")]
    assert settler.closed == ["box"]


@pytest.mark.parametrize("shut", ["sms", "mms"])
async def test_what_waited_is_withheld_by_the_breakers_of_its_own_channel(shut: str) -> None:
    """What waits for earlier messages of several conversations is one part, of several channels maybe."""
    sms, mms = ({"conversation_id": kind, "channel": kind} for kind in ("sms", "mms"))
    earlier = [claimed(id="m0", **sms), claimed(id="m1", **mms)]
    later = [claimed(id="m2", **sms), claimed(id="m3", **mms)]
    settler = _Settler("")
    batch = _batch(settler)
    batch._means.gate.still_allows = lambda channel, _admission: channel != shut
    batch._slots.waiting = lambda _most: contextlib.nullcontext()
    with batch._means.order.enter(earlier), batch._means.order.enter(later) as parts:
        (part,) = parts
        for before in part.before:
            asyncio.get_running_loop().call_soon(batch._means.order.leave, before)
        assert await batch._send(parts, ["box"])
        assert part.left.is_set()
    words = {"m2": "sent", "m3": "sent"} | {"m2" if shut == "sms" else "m3": "withheld"}
    assert dict(settler.stored) == words
    assert settler.closed == ["box"]
