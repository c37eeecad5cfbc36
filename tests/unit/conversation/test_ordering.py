"""The order of a message's events, whatever order the log has them in, and every one of them once."""

import itertools
import random
from collections.abc import Iterable, Sequence

import pytest

from posthouse.v1 import event_pb2 as event_pb
from services.conversation.ordering import STEP, EventKey, Ordering, Placed
from services.kit.ids import new_id

# Some time before the messages of these tests, which are made now.
_BEFORE = 1_000


def _event(message_id: str, number: int, *, time: int = _BEFORE) -> event_pb.Event:
    event = event_pb.Event(id=f"{message_id}.{number}", message_id=message_id)
    event.create_time.FromMilliseconds(time)
    return event


def _placed(sequence: int, *events: event_pb.Event) -> list[Placed]:
    return [Placed(sequence, index * STEP, event) for index, event in enumerate(events, start=1)]


def _begun(remembered: int = 1000) -> Ordering:
    """Return an ordering that has seen something before, so that it knows messages made since."""
    ordering = Ordering(remembered)
    first = _placed(1, _event("00000000-0000-0000-0000-000000000000", 1))
    ordering.missing(first)
    list(ordering.arrange(first, {}))
    return ordering


def _ids(arranged: Iterable[tuple[Placed, bool]]) -> list[str]:
    return [item.event.id for item, _ in arranged]


def _run(ordering: Ordering, placed: Sequence[Placed], ledger: dict[EventKey, event_pb.Event]) -> list[str]:
    found = {key: ledger[key] for key in ordering.missing(placed) if key in ledger}
    return _ids(ordering.arrange(placed, found))


def test_events_in_order_pass_as_they_are() -> None:
    ordering, message = _begun(), new_id()
    story = [_event(message, number) for number in (1, 2, 3)]
    placed = _placed(2, *story)
    assert ordering.missing(placed) == []
    assert list(ordering.arrange(placed, {})) == [(item, False) for item in placed]


def test_what_is_missing_is_put_before_and_dropped_when_it_comes() -> None:
    ordering, message = _begun(), new_id()
    story = [_event(message, number) for number in (1, 2, 3)]
    early = _placed(2, story[2])
    assert ordering.missing(early) == [(message, 1), (message, 2)]
    arranged = list(ordering.arrange(early, {(message, 1): story[0], (message, 2): story[1]}))
    assert [(item.event.id, early) for item, early in arranged] == [
        (story[0].id, True),
        (story[1].id, True),
        (story[2].id, False),
    ]
    # The places before an event are its own, and in the order of the events.
    assert [item.offset for item, _ in arranged] == [STEP - 2, STEP - 1, STEP]
    assert _run(ordering, _placed(3, story[0], story[1]), {}) == []


def test_what_stays_missing_goes_out_when_it_comes_and_once() -> None:
    ordering, message = _begun(), new_id()
    story = [_event(message, number) for number in (1, 2, 3)]
    assert _run(ordering, _placed(2, story[0], story[2]), {}) == [story[0].id, story[2].id]
    assert _run(ordering, _placed(3, story[1], story[1], story[2]), {}) == [story[1].id]


def test_what_is_in_the_same_batch_is_not_asked_for() -> None:
    ordering, message = _begun(), new_id()
    one, two = _event(message, 1), _event(message, 2)
    placed = _placed(2, two, one)
    assert ordering.missing(placed) == []
    assert _run(ordering, placed, {}) == [one.id, two.id]


def test_a_message_from_before_begins_where_it_is() -> None:
    ordering = _begun()
    old = "00000000-0001-7000-8000-000000000000"
    assert _run(ordering, _placed(2, _event(old, 4)), {}) == [f"{old}.4"]
    assert ordering.missing(_placed(3, _event(old, 6))) == [(old, 5)]


def test_a_message_from_before_has_no_gap_however_its_events_are_batched() -> None:
    old = "00000000-0001-7000-8000-000000000000"
    story = {number: _event(old, number) for number in range(4, 10)}
    ledger = {(old, number): event for number, event in story.items()}
    log = [story[number] for number in (4, 7, 5, 9, 6, 8)]
    for cut in itertools.product((False, True), repeat=len(log) - 1):
        ordering, seen = _begun(), list[str]()
        batch: list[event_pb.Event] = []
        for event, ends in zip(log, (*cut, True), strict=True):
            batch.append(event)
            if ends:
                seen += _run(ordering, _placed(2, *batch), ledger)
                batch = []
        assert seen == [event.id for event in story.values()], cut


def test_the_first_batch_asks_for_nothing_before_it() -> None:
    ordering, message = Ordering(), new_id()
    later = 10**13  # all messages were made before what is seen first
    placed = _placed(1, _event(message, 3, time=later))
    assert ordering.missing(placed) == []
    assert _ids(ordering.arrange(placed, {})) == [f"{message}.3"]


def test_no_more_is_asked_for_than_there_are_places() -> None:
    ordering, message = _begun(), new_id()
    missing = ordering.missing(_placed(2, _event(message, 10 * STEP)))
    assert missing == [(message, number) for number in range(9 * STEP + 1, 10 * STEP)]


def test_events_that_are_about_no_message_pass_once() -> None:
    ordering = _begun()
    other = event_pb.Event(id="provider.7")
    assert _ids(ordering.arrange(_placed(2, other, other), {})) == ["provider.7"]
    assert _ids(ordering.arrange(_placed(3, other), {})) == []


def test_memory_is_bounded_and_what_it_forgets_is_not_asked_for() -> None:
    ordering = _begun(remembered=16)
    messages = [new_id() for _ in range(200)]
    for place, message in enumerate(messages, start=2):
        assert _run(ordering, _placed(place, _event(message, 1)), {}) == [f"{message}.1"]
    assert len(ordering._newest) <= 17
    # A message forgotten since may go on: its earlier events are not taken for missing.
    assert ordering.missing(_placed(300, _event(messages[-1], 2))) == []


@pytest.mark.parametrize("seed", range(20))
def test_any_order_of_the_log_gives_every_event_once_and_in_order(seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - chance, not secrets
    ordering = _begun()
    messages = [new_id() for _ in range(5)]
    ledger = {(message, number): _event(message, number) for message in messages for number in range(1, 8)}
    log = list(ledger.values())
    dice.shuffle(log)
    log += dice.choices(log, k=10)
    seen: list[str] = []
    places: list[tuple[int, int]] = []
    for sequence in itertools.count(2):
        batch, log = log[: dice.randint(1, 6)], log[6:]
        if not batch:
            break
        placed = _placed(sequence, *batch)
        found = {key: ledger[key] for key in ordering.missing(placed)}
        for item, _ in ordering.arrange(placed, found):
            seen.append(item.event.id)
            places.append((item.sequence, item.offset))
    for message in messages:
        numbers = [int(each.rpartition(".")[2]) for each in seen if each.startswith(message)]
        assert numbers == list(range(1, len(numbers) + 1))
    assert places == sorted(set(places))
