"""The ledger's clock follows PostgreSQL, not the process."""

from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

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


def test_how_far_the_process_is_ahead_is_measured_and_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = LedgerClock()
    with capture_logs() as lines:
        clock.hear(datetime.now(UTC))
        assert lines == []
        set_clock_forward(monkeypatch, 3600)
        for _ in range(3):
            clock.hear(datetime.now(UTC))
    assert [(line["event"], round(line["seconds_ahead"] / 3600)) for line in lines] == [("clock_differs", 1)]
    assert REGISTRY.get_sample_value("clock_ahead_seconds") == pytest.approx(3600, abs=60)


def test_before_it_has_heard_anything_it_is_the_clock_of_the_process() -> None:
    assert abs(LedgerClock().now() - datetime.now(UTC)) < timedelta(seconds=60)
