"""What is due, expired or too old is so by PostgreSQL's clock, whatever those of the processes say."""

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from services.providers.base import Absent, Accepted, Unknown
from tests.clock import set_clock_forward

from .house import House
from .scripted import ScriptedProvider

pytestmark = pytest.mark.integration

HOUR = 3600.0


def _in_minutes(minutes: float) -> Timestamp:
    moment = Timestamp()
    moment.FromDatetime(datetime.now(UTC) + timedelta(minutes=minutes))
    return moment


async def test_a_fast_clock_sends_nothing_early_and_lets_nothing_expire(
    house: House, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Accepted while the clock was right: the dispatcher alone is to judge it.
    (before,) = await house.send("before", expire_time=_in_minutes(30))
    set_clock_forward(monkeypatch, HOUR)
    (later,) = await house.send("later", send_time=_in_minutes(30))
    (valid,) = await house.send("valid", expire_time=_in_minutes(30))
    await house.dispatch()
    await house.until("sent", before, valid)
    assert await house.book.state(later) == "scheduled"
    await house.make_due(later)
    await house.until("sent", later)
    assert provider.attempts() == {"before": 1, "valid": 1, "later": 1}


async def test_a_fast_clock_makes_no_message_too_old_to_be_sent_again(
    house: House, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.scripts = {"lost": [Unknown("timeout"), Accepted("P2")]}
    provider.answers = {"lost": [Absent()]}
    (lost,) = await house.send("lost")
    set_clock_forward(monkeypatch, HOUR)
    await house.dispatch(dispatch_max_age=HOUR / 2)
    await house.until("sent", lost)
    assert provider.attempts() == {"lost": 2}
