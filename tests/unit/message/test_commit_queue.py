"""The queue of group commit: bounded, in order, and split where a transaction must be."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit.errors import OverloadedError
from services.kit.fault_points import FaultPoints
from services.kit.ids import new_id
from services.ledger.accept import Intake
from services.ledger.drafts import Draft
from services.ledger.receipts import ReceiptRow
from services.message.commit import GroupCommitter, Unit, _waves


def _committer(*, batch_size: int = 100, queue_size: int = 100) -> GroupCommitter:
    """Return a committer that is not started: nothing takes what it queues."""
    nowhere: Any = None
    return GroupCommitter(
        nowhere,
        nowhere,
        batch_size=batch_size,
        queue_size=queue_size,
        republish_after=1.0,
        faults=FaultPoints(),
    )


def _unit(*request_ids: str, caller: str = "") -> Unit:
    drafts = [
        Draft(
            channel="sms",
            direction="outbound",
            sender="+15551234567",
            recipient="+15559876543",
            conversation_id="c",
            family="sms",
            participant_a="+15551234567",
            participant_b="+15559876543",
            body="hello",
            request_id=request_id,
        )
        for request_id in request_ids
    ]
    return Unit(items=[Intake(new_id(), draft, caller) for draft in drafts])


async def _queue(committer: GroupCommitter, *units: Unit) -> list["asyncio.Task[Any]"]:
    tasks = [asyncio.create_task(committer.submit(unit)) for unit in units]
    await asyncio.sleep(0)
    return tasks


async def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    committer = _committer(queue_size=10)
    await _queue(committer, *(_unit("") for _ in range(4)))
    await _queue(committer, _unit(""))
    with pytest.raises(OverloadedError) as refused:
        await asyncio.wait_for(committer.submit(_unit("")), 60)
    assert refused.value.retry_after
    assert refused.value.reason == "OVERLOADED"
    committer._take()
    (admitted,) = await _queue(committer, _unit(""))
    assert not admitted.done()


async def test_a_unit_larger_than_the_queue_is_admitted_when_nothing_waits() -> None:
    committer = _committer(queue_size=2)
    (large,) = await _queue(committer, _unit("", "", "", ""))
    assert not large.done()
    with pytest.raises(OverloadedError):
        await asyncio.wait_for(committer.submit(_unit("")), 60)


async def test_batches_are_bounded_and_in_order() -> None:
    committer = _committer(batch_size=6)
    units = [_unit("", "") for _ in range(5)]
    await _queue(committer, *units)
    assert [[unit for unit, _ in committer._take()] for _ in range(3)] == [units[:2], units[2:4], units[4:]]
    assert committer._take() == []


async def test_a_key_is_in_one_transaction_once() -> None:
    committer = _committer()
    units = [_unit("a"), _unit("b", "c"), _unit("c", "d"), _unit("e")]
    await _queue(committer, *units)
    assert [[unit for unit, _ in committer._take()] for _ in range(2)] == [units[:2], units[2:]]


async def test_keys_of_different_callers_are_different_keys() -> None:
    committer = _committer()
    units = [_unit("a", caller="ann"), _unit("a", caller="bob"), _unit(""), _unit("")]
    await _queue(committer, *units)
    assert [unit for unit, _ in committer._take()] == units


_receipts = st.lists(
    st.builds(
        lambda key, message, state: ReceiptRow(
            "simulator", key, message, state, 1, None, None, None, None, None
        ),
        st.sampled_from("abcd"),
        st.sampled_from(["m1", "m2", "m3", None]),
        st.sampled_from(["sent", "delivered"]),
    ),
    max_size=12,
)


@given(_receipts)
def test_waves_name_nothing_twice_and_keep_the_order_of_each_message(receipts: list[ReceiptRow]) -> None:
    waves = _waves(receipts)
    flat = [receipt for wave in waves for receipt in wave]
    assert sorted(map(id, flat)) == sorted(map(id, receipts))
    for wave in waves:
        assert wave
        assert len({receipt.event_key for receipt in wave}) == len(wave)
        named = [receipt.message_id for receipt in wave if receipt.message_id]
        assert len(set(named)) == len(named)
    for mark in ("event_key", "message_id"):
        for value in {getattr(receipt, mark) for receipt in receipts} - {None}:
            in_order = [id(receipt) for receipt in receipts if getattr(receipt, mark) == value]
            assert [id(receipt) for receipt in flat if getattr(receipt, mark) == value] == in_order
