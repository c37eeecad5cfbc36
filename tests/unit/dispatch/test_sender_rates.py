"""A sender's messages a second: who goes at once, and when the others come back."""

import pytest

from services.dispatch import sender_rates
from services.dispatch.sender_rates import SenderRates, Turns
from services.ledger.waiting import Waiting
from tests.unit.kit.test_breaker import Time

A, B = "+15550001111", "+15550002222"


def test_a_seconds_worth_goes_at_once_and_the_rest_one_after_the_other() -> None:
    clock = Time()
    rates = SenderRates({A: 2.0}, clock=clock)
    assert [rates.hold(f"m{n}", A) for n in range(5)] == [0.0, 0.0, 0.5, 1.0, 1.5]
    assert rates.hold("other", B) == 0.0
    clock.now += 0.5
    # Who comes anew is behind those that wait.
    assert rates.hold("m5", A) == 1.5
    assert rates.hold("m2", A) == 0.0
    assert rates.hold("m3", A) == 0.5
    clock.now += 0.5
    assert rates.hold("m3", A) == 0.0
    clock.now += 60.0
    assert [rates.hold(f"n{n}", A) for n in range(3)] == [0.0, 0.0, 0.5]


def test_a_star_holds_for_each_sender_that_is_not_named() -> None:
    rates = SenderRates({A: 5.0, "*": 1.0}, clock=Time())
    assert [rates.hold(f"{sender}{n}", sender) > 0 for sender in (A, B, "c") for n in range(2)] == [
        *[False, False],
        *[False, True],
        *[False, True],
    ]


def test_no_wait_is_longer_than_five_minutes_and_its_turn_is_kept() -> None:
    clock = Time()
    rates = SenderRates({A: 1.0}, clock=clock)
    waits = [rates.hold(f"m{n}", A) for n in range(1000)]
    assert max(waits) == 300.0
    clock.now += 300.0
    assert rates.hold("m999", A) == 300.0
    clock.now += 699.0
    assert rates.hold("m999", A) == 0.0


def test_dispatchers_share_the_rate_of_a_sender_as_their_number_changes() -> None:
    clock, dispatchers = Time(), 2
    rates = SenderRates({A: 4.0}, clock=clock, dispatchers=lambda: dispatchers)
    assert [rates.hold(f"m{n}", A) for n in range(5)] == [0.0, 0.0, 0.5, 1.0, 1.5]
    clock.now += 0.5
    dispatchers = 4
    # Those that wait already wait longer, too.
    assert [rates.hold(f"m{n}", A) for n in (2, 3, 4)] == [0.0, 1.0, 2.0]
    clock.now += 1.0
    dispatchers = 1
    assert [rates.hold(f"m{n}", A) for n in (3, 4)] == [0.0, 0.25]


def test_those_whose_turn_it_is_are_chosen_in_order_and_the_others_keep_their_turns() -> None:
    clock = Time()
    rates = SenderRates({A: 2.0}, clock=clock)
    waiting = [Waiting(f"m{n}", A, f"c{n}") for n in range(4)] + [Waiting("other", B, "c9")]
    assert rates.choose(waiting, 1) == Turns({"m0": A}, None)
    turns = rates.choose(waiting[1:], 9)
    assert turns == Turns({"m1": A, "other": B}, 0.5)
    # Nobody could claim one of them.
    rates.return_unused(turns, ["other"])
    clock.now += 0.5
    assert rates.choose(waiting[2:4], 9) == Turns({"m2": A}, 0.5)
    assert rates.choose([Waiting("m4", A, "c4")], 9) == Turns({}, 0.5)


def test_nobody_goes_before_an_earlier_message_of_the_conversation() -> None:
    rates = SenderRates({A: 10.0}, clock=Time())
    behind = [Waiting("m1", A, "c1", behind=True), Waiting("m2", A, "c1"), Waiting("m3", A, "c2")]
    assert rates.choose(behind, 9) == Turns({"m3": A}, 1.0)
    # Who waits for another has used no turn up.
    assert rates.choose([Waiting(f"n{n}", A, f"d{n}") for n in range(12)], 99).ids == [
        f"n{n}" for n in range(9)
    ]


def test_an_unused_turn_is_given_back() -> None:
    rates = SenderRates({A: 1.0}, clock=Time())
    assert rates.hold("m1", A) == 0.0
    rates.give_back(A)
    assert rates.hold("m2", A) == 0.0
    rates.give_back(B)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_rates, "_MOST_SLOTS", 100)
    rates = SenderRates({A: 1.0}, clock=Time())
    for number in range(1000):
        rates.hold(f"m{number}", A)
    assert len(rates._slots) <= 100
