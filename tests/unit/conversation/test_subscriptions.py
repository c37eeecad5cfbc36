"""What is refused of subscriptions before the ledger is asked."""

from typing import Any

import pytest

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
