"""When a post to a customer's endpoint is made again."""

import pytest

from services.conversation.delivering import DeliveryPolicy

_POLICY = DeliveryPolicy(attempts=5, retry_base=5.0, retry_max=300.0)


@pytest.mark.parametrize(("failures", "ceiling"), [(1, 5.0), (2, 20.0), (3, 80.0), (4, 300.0)])
def test_each_backoff_is_four_times_the_one_before_up_to_a_bound(failures: int, ceiling: float) -> None:
    delays = [_POLICY.after(failures, None) or 0.0 for _ in range(100)]
    assert 0.75 * ceiling <= min(delays) <= max(delays) <= ceiling


def test_after_the_last_attempt_there_is_none() -> None:
    assert _POLICY.after(4, None) is not None
    assert _POLICY.after(5, None) is None


def test_an_endpoint_may_ask_for_more_time_up_to_the_same_bound() -> None:
    assert _POLICY.after(1, 60.0) == 60.0
    assert _POLICY.after(1, 1e9) == 300.0
