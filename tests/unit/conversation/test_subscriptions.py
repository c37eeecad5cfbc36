"""What is refused of subscriptions before the ledger is asked."""

from typing import Any

import pytest

from posthouse.v1 import subscription_service_pb2 as pb
from services.conversation.subscription_servicer import SubscriptionServicer
from services.conversation.subscriptions import SubscriptionKeeper
from services.kit.errors import InvalidRequestError
from services.kit.ids import new_id

MESSAGE = "01a2013f-97bb-731e-867d-9ae1d95a84cc"


@pytest.mark.parametrize(
    "event_id",
    [
        "",
        MESSAGE,
        f"{MESSAGE}.",
        f"{MESSAGE}.0",
        f"{MESSAGE}.-1",
        f"{MESSAGE}.x",
        f"{MESSAGE}.2147483648",
        f"{MESSAGE}.{'1' * 5000}",
        f"{MESSAGE}.\N{ARABIC-INDIC DIGIT THREE}",
        "7.1",
        ".1",
    ],
)
async def test_what_is_no_id_of_an_event_is_refused(event_id: str) -> None:
    nothing: Any = None
    keeper = SubscriptionKeeper(nothing, nothing, wake=nothing, disabled=nothing)
    with pytest.raises(InvalidRequestError) as refused:
        await keeper.replay_one(new_id(), event_id)
    assert [violation.field for violation in refused.value.violations] == ["event_id"]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.ReplayEventsRequest(), "event_id"),
        (pb.ReplayEventsRequest(event_id=f"{MESSAGE}.1", since_time={"seconds": 1}), "event_id"),
        (pb.ReplayEventsRequest(event_id=f"{MESSAGE}.1", until_time={"seconds": 1}), "until_time"),
        (pb.ReplayEventsRequest(event_id=f"{MESSAGE}.1", undelivered_only=True), "undelivered_only"),
    ],
)
async def test_a_replay_is_of_one_event_or_of_a_range(request_: pb.ReplayEventsRequest, field: str) -> None:
    nothing: Any = None
    keeper = SubscriptionKeeper(nothing, nothing, wake=nothing, disabled=nothing)
    with pytest.raises(InvalidRequestError) as refused:
        await SubscriptionServicer(nothing, keeper).ReplayEvents(request_, nothing)
    assert [violation.field for violation in refused.value.violations] == [field]
