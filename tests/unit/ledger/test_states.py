"""The state table: which moves there are, and that news can never take a message back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit import enum_names
from services.ledger.legal_moves import LEGAL_MOVES
from services.ledger.states import MOVES, REPORTABLE, TERMINAL, can_move

_states = st.sampled_from(sorted(MOVES))

# The only ways out of a terminal state: a carrier's correction upwards, a read receipt, a replay, and proof
# that what was given up or cancelled had arrived.
_WAYS_OUT = {
    ("failed", "delivered"),
    ("failed", "read"),
    ("cancelled", "delivered"),
    ("cancelled", "read"),
    ("undelivered", "delivered"),
    ("undelivered", "read"),
    ("delivered", "read"),
    ("failed", "pending"),
}


def _news() -> set[tuple[str, str]]:
    """Return the moves the hot statements allow themselves."""
    moves = LEGAL_MOVES.removeprefix("'{").removesuffix("}'::text[]").replace('"', "").split(",")
    return {(source, target) for source, _, target in (move.partition(">") for move in moves)}


def test_the_states_are_those_of_the_contract() -> None:
    assert all(enum_names.STATE.word(enum_names.STATE.number(state)) == state for state in MOVES)
    assert {target for targets in MOVES.values() for target in targets} <= set(MOVES)


def test_terminal_states_are_left_only_as_listed() -> None:
    assert {(source, target) for source in TERMINAL for target in MOVES[source]} == _WAYS_OUT


def test_every_other_state_leads_to_a_terminal_one() -> None:
    for state in MOVES:
        reached, edge = {state}, {state}
        while edge:
            edge = {target for source in edge for target in MOVES[source]} - reached
            reached |= edge
        assert reached & TERMINAL, state


@given(_states, _states)
def test_a_message_moves_as_the_table_says(source: str, target: str) -> None:
    assert can_move(source, target) == (target in MOVES[source])
    assert not can_move(source, source)


def test_news_of_attempts_and_providers_never_replays_a_dead_letter() -> None:
    assert ("failed", "pending") not in _news()
    assert _news() == {(source, target) for source in MOVES for target in MOVES[source]} - {
        ("failed", "pending")
    }


@given(_states, st.lists(st.sampled_from(REPORTABLE)))
def test_no_sequence_of_receipts_comes_back_to_a_state_it_left(start: str, reports: list[str]) -> None:
    state, left = start, set()
    for report in reports:
        if (state, report) in _news():
            left.add(state)
            state = report
        assert state not in left


@pytest.mark.parametrize("state", ["received", "read"])
def test_some_states_are_left_by_nothing(state: str) -> None:
    assert MOVES[state] == frozenset()
