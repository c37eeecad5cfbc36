"""The fan-out of a log in memory: who gets what, what waits, and what is said when it is too much."""

import pytest

from services.kit.errors import InvalidRequestError
from services.kit.fanout import EVERYTHING, Entry, Fanout, Subscription
from services.kit.positions import Position, read_position


def _at(sequence: int, offset: int = 0, epoch: int = 1) -> Position:
    return Position(epoch, sequence, offset)


def _entry(sequence: int, *keys: str) -> Entry[str]:
    return Entry(_at(sequence), keys, f"event {sequence}")


def _fanout(*, ring: int = 100, backlog: int = 100) -> Fanout[str]:
    fanout = Fanout[str](ring=ring, backlog=backlog)
    fanout.restart(_at(0))
    return fanout


def _places(subscription: Subscription[str]) -> list[int]:
    return [entry.position.sequence for entry in subscription.take()]


class _Bell:
    def __init__(self) -> None:
        self.rung = 0

    def __call__(self) -> None:
        self.rung += 1


def test_each_gets_what_it_wants_and_is_woken_once_a_batch() -> None:
    fanout, bells = _fanout(), [_Bell() for _ in range(4)]
    everything = fanout.subscribe(EVERYTHING, "", after=_at(0), wake=bells[0])
    thread = fanout.subscribe("thread", "", after=_at(0), wake=bells[1])
    both = fanout.subscribe("thread", "ann", after=_at(0), wake=bells[2])
    other = fanout.subscribe("bob", "", after=_at(0), wake=bells[3])
    fanout.publish([_entry(1, "thread", "ann"), _entry(2, "thread", "cid"), _entry(3, "ann", "ann")], _at(3))
    assert [_places(each) for each in (everything, thread, both, other)] == [[1, 2, 3], [1, 2], [1], []]
    assert [bell.rung for bell in bells] == [1, 1, 1, 0]
    assert _places(everything) == []


def test_an_address_named_twice_is_told_once() -> None:
    fanout = _fanout()
    ann = fanout.subscribe("ann", "", after=_at(0), wake=_Bell())
    fanout.publish([_entry(1, "ann", "ann")], _at(1))
    assert _places(ann) == [1]


def test_who_comes_later_gets_what_is_in_the_ring() -> None:
    fanout = _fanout(ring=3)
    fanout.publish([_entry(number, "odd" if number % 2 else "even") for number in range(1, 6)], _at(5))
    assert not fanout.covers(_at(1))
    assert fanout.covers(_at(2))
    assert _places(fanout.subscribe(EVERYTHING, "", after=_at(2), wake=_Bell())) == [3, 4, 5]
    assert _places(fanout.subscribe("odd", "", after=_at(3), wake=_Bell())) == [5]
    assert _places(fanout.subscribe(EVERYTHING, "", after=_at(5), wake=_Bell())) == []


def test_who_is_ahead_gets_nothing_twice() -> None:
    fanout = _fanout()
    # It has read up to 2 elsewhere; this process comes there later.
    ahead = fanout.subscribe(EVERYTHING, "", after=_at(2), wake=_Bell())
    fanout.publish([_entry(1), _entry(2), _entry(3)], _at(3))
    assert _places(ahead) == [3]


def test_one_who_does_not_take_is_told_and_the_others_go_on() -> None:
    fanout, bell = _fanout(backlog=2), _Bell()
    slow = fanout.subscribe(EVERYTHING, "", after=_at(0), wake=bell)
    quick = fanout.subscribe(EVERYTHING, "", after=_at(0), wake=_Bell())
    for number in range(1, 6):
        fanout.publish([_entry(number)], _at(number))
        assert _places(quick) == [number]
    assert slow.overflowed
    assert not quick.overflowed
    # What it has is without a hole: it goes on after the last of it.
    assert _places(slow) == [1, 2]
    assert bell.rung == 3
    again = fanout.subscribe(EVERYTHING, "", after=_at(2), wake=_Bell())
    assert _places(again) == [3, 4, 5]


def test_a_new_log_is_a_gap_that_everybody_is_told_of() -> None:
    fanout, bell = _fanout(), _Bell()
    watcher = fanout.subscribe("ann", "", after=_at(0), wake=bell)
    fanout.publish([_entry(1, "ann")], _at(1))
    fanout.restart(_at(0, epoch=2))
    fanout.publish([Entry(_at(1, epoch=2), ("ann",), "new")], _at(1, epoch=2))
    taken = watcher.take()
    assert [(entry.position, entry.item) for entry in taken] == [
        (_at(1), "event 1"),
        (_at(0, epoch=2), None),
        (_at(1, epoch=2), "new"),
    ]
    assert bell.rung == 3
    assert not fanout.covers(_at(1))


def test_who_has_left_gets_nothing() -> None:
    fanout, bell = _fanout(), _Bell()
    watcher = fanout.subscribe("ann", "", after=_at(0), wake=bell)
    assert (fanout.count, fanout.subscriptions()) == (1, [watcher])
    fanout.unsubscribe(watcher)
    fanout.unsubscribe(watcher)
    fanout.publish([_entry(1, "ann")], _at(1))
    assert (fanout.count, fanout.subscriptions(), _places(watcher), bell.rung) == (0, [], [], 0)


def test_without_a_log_nothing_is_covered() -> None:
    fanout = _fanout()
    fanout.forget()
    assert fanout.head is None
    assert not fanout.covers(_at(0))


def test_positions_compare_in_the_order_of_the_log_and_are_read_back() -> None:
    places = [_at(9, 64), _at(10, 1), _at(10, 64), _at(1, epoch=2)]
    assert sorted(places) == places
    assert [read_position("after", str(place)) for place in places] == places
    assert read_position("after", "") is None
    for text in ("x", "1-2", "1-2-3-4", "1--2-3", "g-1-1", "1-2-3 ", "1-99999999999999999999-1"):
        with pytest.raises(InvalidRequestError) as refused:
            read_position("after", text)
        assert refused.value.violations[0].field == "after"
