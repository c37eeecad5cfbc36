"""A message is not tried for ever: its age counts from when it was to be sent."""

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from posthouse.v1 import dispatch_service_pb2 as pb
from services.providers.base import Absent, Accepted, Retryable, Unknown

from .house import House
from .scripted import ScriptedProvider
from .steering import steering

pytestmark = pytest.mark.integration

_AGE = "UPDATE messages SET create_time = create_time - interval '2 days' RETURNING true"
_RETRY_NOW = "UPDATE outbox SET due_time = now() WHERE subject LIKE '%%.retry' RETURNING true"


async def test_a_retry_that_has_waited_too_long_is_given_up_and_a_replay_begins_anew(
    house: House, provider: ScriptedProvider
) -> None:
    provider.scripts = {"slow": [Retryable("429"), Retryable("503"), Retryable("503"), Accepted("P4")]}
    running = await house.dispatch(
        dispatch_max_age=86_400.0, dispatch_retry_base=40_000.0, dispatch_retry_max=40_000.0
    )
    (slow,) = await house.send("slow")
    await house.until_true("SELECT bool_and(state = 'pending' AND attempt_count = 1) FROM messages")
    await house.book.rows(_AGE)
    await house.book.rows(_RETRY_NOW)
    await house.until("failed", slow)
    # No provider was given it again.
    assert provider.attempts() == {"slow": 1}
    assert await house.book.rows("SELECT reason, error_code FROM dead_letters") == [("too_old", "too_old")]
    async with steering(running) as stub:
        await stub.ReplayDeadLetters(pb.ReplayDeadLettersRequest(message_ids=[slow]))
    await house.until_true("SELECT bool_and(state = 'pending') AND max(attempt_count) = 3 FROM messages")
    await house.book.rows(_RETRY_NOW)
    await house.until("sent", slow)
    await house.until_outbox_is_empty()


async def test_the_age_of_a_scheduled_message_counts_from_its_due_time(
    house: House, provider: ScriptedProvider
) -> None:
    provider.scripts = {"later": [Retryable("503"), Accepted("P2")]}
    await house.dispatch(dispatch_max_age=3600.0)
    due = Timestamp()
    due.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
    (later,) = await house.send("later", send_time=due)
    await house.book.rows(_AGE)
    await house.make_due(later)
    await house.until("sent", later)
    assert provider.attempts() == {"later": 2}


async def test_what_is_too_old_when_its_provider_turns_out_not_to_have_it_is_given_up(
    house: House, provider: ScriptedProvider
) -> None:
    provider.scripts = {"lost": [Unknown("timeout")]}
    provider.answers = {"lost": [Absent()]}
    # Any age is too old; the first attempt is made all the same.
    await house.dispatch(dispatch_max_age=1e-6)
    (lost,) = await house.send("lost")
    await house.until("failed", lost)
    assert provider.attempts() == {"lost": 1}
    assert await house.book.rows("SELECT reason FROM dead_letters") == [("too_old",)]
