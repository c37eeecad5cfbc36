"""Ranges of time in requests."""

import pytest

from posthouse.v1 import conversation_service_pb2 as pb
from services.kit.errors import InvalidRequestError
from services.kit.fields import read_range


@pytest.mark.parametrize("until", [1, 2])
def test_a_range_that_holds_nothing_is_refused(until: int) -> None:
    request = pb.ListConversationsRequest(since_time={"seconds": 2}, until_time={"seconds": until})
    with pytest.raises(InvalidRequestError) as refused:
        read_range(request, "filter.")
    assert [violation.field for violation in refused.value.violations] == ["filter.until_time"]


def test_either_end_may_be_open() -> None:
    since, until = read_range(pb.ListConversationsRequest(since_time={"seconds": 2}))
    assert (since and since.timestamp(), until) == (2.0, None)
