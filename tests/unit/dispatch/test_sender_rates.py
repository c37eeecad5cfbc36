"""A sender's messages a second: who goes at once, and when the others are looked at again."""

import heapq
from collections import Counter
from collections.abc import Iterator

import pytest

from services.dispatch import sender_rates
from services.dispatch.sender_rates import SenderRates, Turns
from services.ledger.waiting import Waiting
from tests.unit.kit.test_breaker import Time

A, B = "+15550001111", "+15550002222"


def _waiting(count: int, sender: str = A, name: str = "m") -> list[Waiting]:
    return [Waiting(f"{name}{n}", sender, f"{sender} {name}{n}") for n in range(count)]


def _going(rates: SenderRates, count: int = 99, sender: str = A) -> int:
    return len(rates.choose(_waiting(count, sender), count).ids)


def test_a_seconds_worth_goes_at_once_and_the_rest_as_time_passes() -> None:
    clock = Time()
    rates = SenderRates({A: 2.0}, clock=clock)
    turns = rates.choose([*_waiting(5), *_waiting(1, B, "other")], 99)
    assert turns == Turns({"m0": A, "m1": A, "other0": B}, Counter({A: 3}))
    clock.now += 0.5
    assert _going(rates) == 1
    clock.now += 60.0
    assert _going(rates) == 2


def test_a_star_holds_for_each_sender_that_is_not_named() -> None:
    rates = SenderRates({A: 5.0, "*": 1.0}, clock=Time())
    assert [_going(rates, sender=sender) for sender in (A, B, "c")] == [5, 1, 1]


def test_a_slow_sender_has_one_message_at_once_however_many_dispatchers_there_are() -> None:
    clock = Time()
    rates = SenderRates({A: 0.5}, clock=clock, dispatchers=lambda: 2)
    assert _going(rates) == 1
    clock.now += 3.9
    assert _going(rates) == 0
    clock.now += 0.2
    assert _going(rates) == 1


def test_dispatchers_share_the_rate_of_a_sender_as_their_number_changes() -> None:
    clock, dispatchers = Time(), 2
    rates = SenderRates({A: 8.0}, clock=clock, dispatchers=lambda: dispatchers)
    assert _going(rates) == 4
    dispatchers = 4
    clock.now += 5.0
    assert _going(rates) == 2
    dispatchers = 1
    clock.now += 5.0
    # The time before it is known counts as it was then.
    assert _going(rates) == 2
    clock.now += 5.0
    assert _going(rates) == 8


def test_those_whose_turn_it_is_are_chosen_in_order() -> None:
    rates = SenderRates({A: 2.0}, clock=Time())
    waiting = [*_waiting(4), Waiting("other", B, "c9")]
    assert rates.choose(waiting, 1) == Turns({"m0": A}, cut=True)
    turns = rates.choose(waiting[1:], 9)
    assert turns == Turns({"m1": A, "other": B}, Counter({A: 2}))
    # Nobody could claim one of them.
    rates.return_unused(turns, ["other"])
    assert rates.choose(waiting[1:4], 9) == Turns({"m1": A}, Counter({A: 2}))


def test_nobody_goes_before_an_earlier_message_of_the_conversation() -> None:
    rates = SenderRates({A: 10.0}, clock=Time())
    behind = [Waiting("m1", A, "c1", behind=True), Waiting("m2", A, "c1"), Waiting("m3", A, "c2")]
    turns = rates.choose(behind, 9)
    assert turns == Turns({"m3": A}, behind=True)
    assert turns.keep
    assert rates.delay(turns) == 1.0
    # Who waits for another has used no turn up.
    assert _going(rates) == 9
    # Nor does one go for which there is a turn just after its predecessor went without.
    assert rates.choose([Waiting("n1", A, "c3"), Waiting("n2", A, "c3")], 9) == Turns(held=Counter({A: 2}))


def test_an_unused_turn_is_given_back_and_makes_no_more_than_a_seconds_worth() -> None:
    rates = SenderRates({A: 1.0}, clock=Time())
    assert _going(rates) == 1
    rates.give_back(A)
    assert _going(rates) == 1
    rates.give_back(A, 50)
    rates.give_back(B)
    assert _going(rates) == 1


def test_what_waits_is_looked_at_a_few_times_while_the_bucket_fills() -> None:
    clock = Time()
    rates = SenderRates({A: 10.0}, clock=clock)
    turns = rates.choose(_waiting(99), 99)
    assert [rates.delay(turns) for _ in range(4)] == pytest.approx([0.1, 0.35, 0.6, 0.85])
    # However many wait, each is looked at within a minute.
    assert max(rates.delay(turns) for _ in range(1000)) == 60.0
    clock.now += 60.0
    # Whoever comes when there are turns goes.
    assert _going(rates) == 10


def test_a_slow_sender_is_looked_at_every_few_seconds() -> None:
    rates = SenderRates({A: 0.01}, clock=Time())
    turns = rates.choose(_waiting(9), 9)
    assert [rates.delay(turns) for _ in range(3)] == [5.0, 10.0, 15.0]


def test_who_waits_with_a_slower_sender_is_looked_at_in_its_own_time() -> None:
    rates = SenderRates({A: 0.01, B: 10.0}, clock=Time())
    turns = rates.choose([*_waiting(2, A, "a"), *_waiting(12, B, "b")], 99)
    assert turns.held == Counter({A: 1, B: 2})
    assert rates.delay(turns) == pytest.approx(0.1)
    # The next look for the other has not been put off by that.
    assert rates.delay(Turns(held=Counter({A: 1}))) == 5.0


def test_buckets_that_are_full_are_forgotten_once_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_rates, "_MANY_BUCKETS", 100)
    clock = Time()
    rates = SenderRates({"*": 1.0}, clock=clock)
    for number in range(1000):
        clock.now += 0.1
        _going(rates, 1, f"s{number}")
    assert len(rates._shares) <= 100
    assert _going(rates, 1, "s999") == 0


@pytest.mark.parametrize("dispatchers", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 100])
def test_the_rate_is_kept_and_used_whoever_gets_an_envelope_next(dispatchers: int, size: int) -> None:
    clock, rate, count = Time(), 30.0, 1000
    begin = clock.now
    house = [SenderRates({A: rate}, clock=clock, dispatchers=lambda: dispatchers) for _ in range(dispatchers)]
    messages = _waiting(count)
    # Envelopes by the time they are due, in an order that is none; 40 ms for the way there and back.
    due = [(begin, start, messages[start : start + size]) for start in range(0, count, size)]
    sent: list[float] = []
    looks = 0
    for one in _lots(dispatchers):
        if not due:
            break
        time, start, envelope = heapq.heappop(due)
        clock.now = max(clock.now, time)
        looks += 1
        turns = house[one].choose(envelope, size)
        sent += [clock.now] * len(turns.ids)
        if turns.keep:
            again = clock.now + 0.04 + house[one].delay(turns)
            heapq.heappush(due, (again, start, envelope[len(turns.ids) :]))
    assert len(sent) == count
    most = max(sum(first <= one <= first + 1.0 for one in sent) for first in sent)
    assert most <= 2 * rate
    assert (count - rate) / rate <= sent[-1] - begin <= 1.25 * count / rate
    # Each envelope when it comes, and then a few a second, or a few for each message that may go.
    assert looks <= count // size + max(5 * dispatchers, 3 * rate // size) * (sent[-1] - begin)


@pytest.mark.parametrize("dispatchers", [1, 2, 3])
def test_the_urgent_go_before_a_full_lane_of_the_same_sender_which_goes_on(dispatchers: int) -> None:
    clock, rate = Time(), 2.0
    begin = clock.now
    house = [SenderRates({A: rate}, clock=clock, dispatchers=lambda: dispatchers) for _ in range(dispatchers)]
    # 40 envelopes of ten newsletters, and from the twentieth second on a password every other second.
    news, passwords = _waiting(400, A, "news"), _waiting(60, A, "password")
    due = [(begin, False, news[start : start + 10]) for start in range(0, 400, 10)]
    came = {one.id: begin + 20.0 + 2.0 * number for number, one in enumerate(passwords)}
    due += [(came[one.id], True, [one]) for one in passwords]
    heapq.heapify(due)
    waited: list[float] = []
    passed = 0
    for one in _lots(dispatchers):
        time, urgent, envelope = heapq.heappop(due)
        clock.now = max(clock.now, time)
        if clock.now > begin + 140.0:
            break
        turns = house[one].choose(envelope, 99, urgent=urgent)
        if urgent:
            waited += [clock.now - came[message_id] for message_id in turns.ids]
        elif clock.now > begin + 20.0:
            passed += len(turns.ids)
        if turns.keep:
            left = [message for message in envelope if message.id not in turns.senders]
            heapq.heappush(due, (clock.now + 0.04 + house[one].delay(turns), urgent, left))
    assert len(waited) >= 58
    # A dispatcher has a turn every `dispatchers / rate` seconds, and the envelope goes to any of them.
    assert max(waited) <= 4.0 * dispatchers / rate
    # What they leave of the rate is used, but for what one dispatcher keeps for those that go by another.
    assert passed >= (0.75 if dispatchers == 1 else 0.6) * (120.0 * rate - len(waited))


def test_however_many_are_urgent_others_have_one_turn_in_nine() -> None:
    clock = Time()
    rates = SenderRates({A: 1.0}, clock=clock)
    taken: list[bool] = []
    for _ in range(90):
        clock.now += 1.0
        for urgent in (False, True):
            turns = rates.choose(_waiting(9), 9, urgent=urgent)
            taken += [urgent] * len(turns.ids)
            if urgent:
                rates.delay(turns)
    assert len(taken) == 90
    assert 9 <= taken.count(False) <= 11


def _lots(dispatchers: int) -> Iterator[int]:
    """Draw dispatchers, the same at each run."""
    drawn = 1
    while True:
        drawn = drawn * 1103515245 + 12345 & 0x7FFFFFFF
        yield (drawn >> 16) % dispatchers
