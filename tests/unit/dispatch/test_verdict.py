"""What the answers of providers settle about a message whose outcome is unknown."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.dispatch.inquiry import verdict
from services.ledger.outcomes import Settlement
from services.ledger.states import can_move
from services.providers.base import Absent, CannotTell, Found, LookupResult

from .samples import claimed, route

_results = st.sampled_from([Found("SM1"), Absent(), CannotTell()])


def _verdict(*results: LookupResult, attempt: int = 1, max_attempts: int = 5) -> Settlement | None:
    answers = [(route(f"provider {n}"), result) for n, result in enumerate(results)]
    return verdict(claimed(attempt=attempt), answers, max_attempts=max_attempts)


@pytest.mark.parametrize(
    "results", [[Found("SM1")], [Absent(), Found("SM1")], [CannotTell(), Found("SM1"), Absent()]]
)
def test_found_by_one_was_sent(results: Sequence[LookupResult]) -> None:
    settlement = _verdict(*results, attempt=5)
    assert settlement is not None
    assert (settlement.state, settlement.outcome, settlement.event) == ("sent", "accepted", "sent")
    assert settlement.provider == f"provider {results.index(Found('SM1'))}"
    assert (settlement.provider_message_id, settlement.error_code, settlement.delay) == ("SM1", None, None)


def test_absent_from_all_is_sent_again_at_once() -> None:
    settlement = _verdict(Absent(), Absent())
    assert settlement is not None
    assert (settlement.state, settlement.outcome, settlement.event) == ("pending", "unknown", "retrying")
    assert (settlement.provider, settlement.error_code, settlement.delay) == ("provider 0", "absent", 0.0)
    assert settlement.dead_reason is None


@pytest.mark.parametrize(("attempt", "state"), [(4, "pending"), (5, "failed"), (6, "failed")])
def test_absence_uses_up_attempts_like_any_other_failure(attempt: int, state: str) -> None:
    settlement = _verdict(Absent(), attempt=attempt)
    assert settlement is not None
    assert settlement.state == state
    assert settlement.dead_reason == (None if state == "pending" else "attempts_exhausted")
    assert (settlement.delay is None) == (state == "failed")


def test_what_is_too_old_is_not_sent_again() -> None:
    settlement = verdict(claimed(), [(route(), Absent())], max_attempts=5, too_old=True)
    assert settlement is not None
    assert (settlement.state, settlement.outcome, settlement.dead_reason) == ("failed", "unknown", "too_old")


@pytest.mark.parametrize("results", [[], [CannotTell()], [Absent(), CannotTell()]])
def test_doubt_settles_nothing(results: Sequence[LookupResult]) -> None:
    assert _verdict(*results) is None


def test_a_found_message_may_have_no_id() -> None:
    settlement = _verdict(Found(""))
    assert settlement is not None
    assert (settlement.state, settlement.provider_message_id) == ("sent", None)


@given(st.lists(_results, max_size=4), st.integers(1, 8), st.integers(1, 8))
def test_nothing_is_sent_again_while_anybody_may_have_it(
    results: list[LookupResult], attempt: int, max_attempts: int
) -> None:
    settlement = _verdict(*results, attempt=attempt, max_attempts=max_attempts)
    again = settlement is not None and settlement.state == "pending"
    assert again == (bool(results) and set(results) == {Absent()} and attempt < max_attempts)
    if settlement is not None:
        assert (settlement.id, settlement.attempt) == ("m1", attempt)
        assert can_move("unknown", settlement.state)
