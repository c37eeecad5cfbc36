from prometheus_client import REGISTRY

from services.dispatch.error_rates import ErrorRate, ErrorRates


def test_the_rate_is_of_the_last_minute() -> None:
    now = 1000.0
    rate = ErrorRate(clock=lambda: now)
    assert rate.rate() == 0
    rate.record(1, 3)
    assert rate.rate() == 0.75
    now += 30
    rate.record(4, 0)
    assert rate.rate() == 0.375
    now += 40
    assert rate.rate() == 0
    rate.record(0, 2)
    assert rate.rate() == 2 / 6


def test_failures_add_up_until_a_success() -> None:
    rate = ErrorRate()
    rate.record(0, 4)
    rate.record(0, 3)
    assert rate.failures_in_a_row() == 7
    rate.record(1, 5)
    assert rate.failures_in_a_row() == 0


def test_the_metrics_read_them() -> None:
    rates = ErrorRates({"email": ["counted-provider"]})
    rates.record("counted-provider", "email", 0, 6)
    rates.record("nobody", "email", 0, 6)
    labels = {"provider": "counted-provider", "channel": "email"}
    assert REGISTRY.get_sample_value("provider_consecutive_failures", labels) == 6
    assert REGISTRY.get_sample_value("provider_error_rate", labels) == 1


def test_what_is_counted_begins_at_zero() -> None:
    ErrorRates({"mms": ["quiet-provider"]})
    assert (
        REGISTRY.get_sample_value("messages_sent_total", {"channel": "mms", "provider": "quiet-provider"})
        == 0
    )
    for reason in ("rejected", "attempts_exhausted", "too_old", "expired", "opted_out", "no_route"):
        labels = {"channel": "mms", "reason": reason}
        assert REGISTRY.get_sample_value("messages_failed_total", labels) is not None, reason
