"""The ledger's clock follows PostgreSQL, not the process."""

from datetime import UTC, datetime, timedelta

import pytest

from services.ledger.clock import LedgerClock
from tests.clock import Clock, set_clock_forward


def test_it_carries_on_what_was_heard_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monotonic = Clock()
    monkeypatch.setattr("time.monotonic", monotonic)
    set_clock_forward(monkeypatch, 3600)
    clock = LedgerClock()
    heard = datetime(2026, 3, 1, tzinfo=UTC)
    clock.hear(heard)
    monotonic.now += 1.5
    assert clock.now() == heard + timedelta(seconds=1.5)
    clock.hear(heard)
    assert clock.now() == heard


def test_before_it_has_heard_anything_it_is_the_clock_of_the_process() -> None:
    assert abs(LedgerClock().now() - datetime.now(UTC)) < timedelta(seconds=60)
