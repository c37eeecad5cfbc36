"""The state machine that docs/architecture.md draws is the one that the ledger enforces."""

import re
from pathlib import Path

from services.ledger.states import MOVES

_PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
_EDGE = re.compile(r" *(\[\*\]|\w+) --> (\[\*\]|\w+)(?:: .+)?")


def _drawn() -> list[tuple[str, str]]:
    (picture,) = re.findall(r"```mermaid\nstateDiagram-v2\n(.*?)```", _PAGE.read_text(), re.DOTALL)
    edges = [_EDGE.fullmatch(line) for line in picture.splitlines()]
    assert all(edges)
    return [(edge[1], edge[2]) for edge in edges if edge is not None]


def test_every_legal_move_is_drawn_once_and_no_other() -> None:
    moves = [edge for edge in _drawn() if "[*]" not in edge]
    assert sorted(moves) == sorted((source, target) for source in MOVES for target in MOVES[source])


def test_states_without_a_move_are_drawn_as_ends() -> None:
    ends = {source for source, target in _drawn() if target == "[*]"}
    assert ends == {state for state, targets in MOVES.items() if not targets}


def test_every_state_can_be_reached_from_a_beginning() -> None:
    drawn = _drawn()
    reached = {target for source, target in drawn if source == "[*]"}
    while more := {target for source, target in drawn if source in reached} - reached:
        reached |= more
    assert reached - {"[*]"} == set(MOVES)
