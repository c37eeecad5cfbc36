"""What is counted once outcomes are recorded."""

from datetime import UTC, datetime

from services.dispatch.retry import expiry_of
from services.dispatch.settling import _count
from services.kit import metrics
from services.ledger.outcomes import Settled

from .samples import claimed

_NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def _failed() -> float:
    return float(metrics.MESSAGES_FAILED.labels("sms", "expired")._value.get())


def test_only_a_message_that_has_failed_by_it_counts_as_failed() -> None:
    settlements = {"m1": expiry_of(claimed())}
    before = _failed()
    _count(settlements, [Settled("m1", 3, "delivered", moved=False, create_time=_NOON)])
    assert _failed() == before
    _count(settlements, [Settled("m1", 3, "failed", moved=True, create_time=_NOON)])
    assert _failed() == before + 1
