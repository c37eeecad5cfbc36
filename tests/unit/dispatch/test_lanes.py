"""The order in which lanes are served: high first, nobody never."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.v1.event_pb2 import DispatchEnvelope
from services.dispatch.lanes import _TURNS, LANES, Lanes, Work, _read
from services.kit.ids import new_id

_lanes = st.sampled_from(sorted(LANES))
_ID = "01a1c9a5-3f6e-7c52-9d3b-1f0e8a7b6c5d"


def _make(*, batch_size: int = 1) -> Lanes:
    bus: Any = None
    return Lanes(bus, batch_size=batch_size)


def _fill(lanes: Lanes, lane: str, *sizes: int) -> None:
    """Put envelopes of so many messages into a lane."""
    message: Any = None
    for size in sizes:
        lanes._put(lane, DispatchEnvelope(outbox_id=new_id(), message_ids=["m"] * size), message)


async def _take(lanes: Lanes, times: int) -> list[str]:
    async with asyncio.timeout(60):
        return [(await lanes.take())[0].lane for _ in range(times)]


async def test_every_lane_has_its_share_while_all_are_full() -> None:
    lanes = _make()
    for lane in LANES:
        _fill(lanes, lane, *[1] * 90)
    assert Counter(await _take(lanes, 90)) == {
        "high": 30,
        "retry_high": 10,
        "normal": 20,
        "retry": 10,
        "low": 10,
        "inquiry": 10,
    }


@pytest.mark.parametrize("turn", range(len(_TURNS)))
@pytest.mark.parametrize("full", ["normal", "retry", "retry_high", "low", "inquiry"])
async def test_high_waits_for_one_batch_of_another_lane_at_most(turn: int, full: str) -> None:
    lanes = _make()
    _fill(lanes, full, *[1] * 50)
    await _take(lanes, turn)
    _fill(lanes, "high", 1)
    assert "high" in await _take(lanes, 2)


@given(st.lists(_lanes, max_size=30), st.integers(0, 20), _lanes)
async def test_whatever_else_waits_a_lane_is_served_within_a_round(
    others: list[str], before: int, lane: str
) -> None:
    lanes = _make()
    for other in others:
        _fill(lanes, other, *[1] * 30)
    if others:
        await _take(lanes, before)
    _fill(lanes, lane, 1)
    assert lane in await _take(lanes, min(len(_TURNS), 1 + len(others) * 30))


def test_every_turn_looks_at_every_lane() -> None:
    assert all(sorted(turn) == sorted(LANES) for turn in _TURNS)
    assert {turn[0] for turn in _TURNS} == set(LANES)


async def test_a_batch_is_of_one_lane_in_order_and_bounded() -> None:
    lanes = _make(batch_size=10)
    _fill(lanes, "normal", 4, 4, 4, 15, 1)
    _fill(lanes, "low", 1)
    sizes: dict[str, list[list[int]]] = {"normal": [], "low": []}
    for _ in range(5):
        work: list[Work] = await asyncio.wait_for(lanes.take(), 60)
        sizes[work[0].lane].append([len(item.envelope.message_ids) for item in work])
        assert len({item.lane for item in work}) == 1
    # One that is larger than a batch is a batch of its own.
    assert sizes == {"normal": [[4, 4], [4], [15], [1]], "low": [[1]]}
    assert set(lanes._sizes.values()) == {0}


async def test_taking_waits_until_there_is_work() -> None:
    lanes = _make()
    waiting = asyncio.create_task(lanes.take())
    done, _ = await asyncio.wait([waiting], timeout=0.02)
    assert not done
    _fill(lanes, "low", 1)
    assert [item.lane for item in await asyncio.wait_for(waiting, 60)] == ["low"]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> Lanes:
    monkeypatch.setattr("services.dispatch.lanes._GATHER", 3600)
    return _make(batch_size=3)


async def test_work_gathers_after_a_take_until_it_is_a_batch(patient: Lanes) -> None:
    _fill(patient, "normal", 1)
    await asyncio.wait_for(patient.take(), 60)
    waiting = asyncio.create_task(patient.take())
    for _ in range(2):
        _fill(patient, "normal", 1)
        done, _ = await asyncio.wait([waiting], timeout=0.02)
        assert not done
    _fill(patient, "normal", 1)
    assert len(await asyncio.wait_for(waiting, 60)) == 3


@pytest.mark.parametrize("lane", ["high", "retry_high"])
async def test_what_is_urgent_waits_for_no_company(patient: Lanes, lane: str) -> None:
    _fill(patient, lane, 1)
    assert await _take(patient, 1) == [lane]
    _fill(patient, lane, 1)
    assert await _take(patient, 1) == [lane]
    _fill(patient, "normal", 1)
    waiting = asyncio.create_task(patient.take())
    done, _ = await asyncio.wait([waiting], timeout=0.02)
    assert not done
    _fill(patient, lane, 1)
    await asyncio.wait_for(waiting, 60)


@given(st.binary(max_size=80))
def test_any_bytes_are_an_envelope_with_a_canonical_id_or_none(payload: bytes) -> None:
    envelope = _read(payload)
    assert envelope is None or (len(envelope.outbox_id) == 36 and envelope.outbox_id.isascii())


@pytest.mark.parametrize("text", ["", "x", "{" + _ID + "}", _ID + "\n", _ID + ",", _ID[:-1]])
def test_an_id_that_is_no_uuid_is_no_envelope(text: str) -> None:
    assert _read(DispatchEnvelope(outbox_id=text).SerializeToString()) is None
    fine = DispatchEnvelope(outbox_id=new_id(), message_ids=["m"])
    assert _read(fine.SerializeToString()) == fine
