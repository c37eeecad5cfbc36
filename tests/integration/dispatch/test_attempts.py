"""From acceptance to the end of a message, for every outcome a provider may give."""

from datetime import UTC, datetime, timedelta
from typing import Any

import nats
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from nats.aio.msg import Msg

from posthouse.v1 import dispatch_pb2, message_pb2
from posthouse.v1 import message_service_pb2 as pb
from services.providers.base import Accepted, NotBegun, Rejected, Retryable

from .house import House
from .scripted import ScriptedProvider

pytestmark = pytest.mark.integration

_ATTEMPTS = (
    "SELECT number, provider, outcome, error_code, provider_message_id FROM dispatch_attempts"
    " WHERE message_id = %s ORDER BY number"
)


async def _dead_letters(house: House, count: int) -> list[tuple[str, dispatch_pb2.DeadLetter]]:
    """Return the subjects and contents of the DEADLETTER stream, once it has that many."""
    client = await nats.connect(house.settings.nats_url)
    try:
        stream = client.jetstream()
        letters = await stream.pull_subscribe("posthouse.deadletter.>", stream="DEADLETTER")
        found: list[Msg] = []
        while len(found) < count:
            found += await letters.fetch(count - len(found), timeout=60)
        assert (await stream.stream_info("DEADLETTER")).state.messages == count
    finally:
        await client.close()
    return [(one.subject, dispatch_pb2.DeadLetter.FromString(one.data)) for one in found]


async def test_accepted_messages_are_sent_once_and_tell_their_story(
    house: House, provider: ScriptedProvider
) -> None:
    await house.dispatch()
    ids = await house.send("one", "two", "three")
    await house.until("sent", *ids)
    assert provider.bodies == ["one", "two", "three"]
    first = provider.sent[0]
    assert (first.id, first.attempt, first.channel, first.sender, first.recipient) == (
        ids[0],
        1,
        "sms",
        "+15551234567",
        "+15559876543",
    )
    for one in ids:
        assert await house.book.story(one) == ["accepted", "sending", "sent"]
        assert await house.book.rows(_ATTEMPTS, one) == [(1, "scripted", "accepted", None, f"P-{one}")]
    found = (await house.stub.GetMessage(pb.GetMessageRequest(message_id=ids[0]))).message
    assert (found.state, found.provider, found.provider_message_id, found.attempt_count) == (
        message_pb2.MESSAGE_STATE_SENT,
        "scripted",
        f"P-{ids[0]}",
        1,
    )
    await house.until_outbox_is_empty()


async def test_retryable_is_tried_again_when_it_is_due(house: House, provider: ScriptedProvider) -> None:
    provider.scripts = {"busy": [Retryable("429", "slow down"), Retryable("503"), Accepted("P1")]}
    await house.dispatch()
    busy, fine = await house.send("busy", "fine")
    await house.until("sent", busy, fine)
    assert provider.attempts() == {"busy": 3, "fine": 1}
    assert [message.attempt for message in provider.sent if message.body == "busy"] == [1, 2, 3]
    assert await house.book.story(busy) == [
        *["accepted", "sending", "retrying", "sending", "retrying", "sending", "sent"]
    ]
    assert await house.book.rows(_ATTEMPTS, busy) == [
        (1, "scripted", "retryable", "429", None),
        (2, "scripted", "retryable", "503", None),
        (3, "scripted", "accepted", None, "P1"),
    ]
    assert await house.book.rows(
        "SELECT error_code, next_attempt_time, attempt_count FROM messages WHERE id = %s", busy
    ) == [(None, None, 3)]
    await house.until_outbox_is_empty()


async def test_what_was_not_begun_is_put_off_at_no_cost(
    house: House, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.dispatch.sending._HELD_BACK", (0.01, 0.02))
    provider.share = 2
    provider.scripts = {"late": [NotBegun("no slot was free"), Accepted("P1")]}
    # One failure would end a message, and open the breaker for longer than the test takes.
    await house.dispatch(
        dispatch_max_attempts=1, breaker_failures=1, breaker_cool_down=600.0, dispatch_retry_base=600.0
    )
    ids = await house.send(*["late"] * 5)
    await house.until("sent", *ids)
    for one in ids:
        assert await house.book.rows(_ATTEMPTS, one) == [(2, "scripted", "accepted", None, "P1")]
        story = ["accepted", "sending", "retrying", "sending", "sent"]
        assert await house.book.story(one) == story
    assert max(len(batch) for batch in provider.batches) <= 2
    await house.until_outbox_is_empty()


async def test_a_retry_waits_for_as_long_as_the_provider_asks(
    house: House, provider: ScriptedProvider
) -> None:
    provider.scripts = {"busy": [Retryable("429", retry_after=0.6), Accepted("P1")]}
    await house.dispatch(dispatch_retry_max=10.0)
    (busy,) = await house.send("busy")
    await house.until("sent", busy)
    started = await house.book.rows(
        "SELECT create_time FROM message_events WHERE message_id = %s AND type IN ('retrying', 'sending')"
        " ORDER BY sequence",
        busy,
    )
    assert started[2][0] - started[1][0] >= timedelta(seconds=0.6)


async def test_given_up_messages_are_dead_letters_in_table_and_stream(
    house: House, provider: ScriptedProvider
) -> None:
    provider.scripts = {"never": [Retryable("503", "closed")], "wrong": [Rejected("21211", "no such number")]}
    await house.dispatch()
    never, wrong, fine = await house.send("never", "wrong", "fine")
    await house.until("failed", never, wrong)
    await house.until("sent", fine)
    assert provider.attempts() == {"never": 3, "wrong": 1, "fine": 1}
    assert (await house.book.story(never))[-2:] == ["sending", "failed"]
    assert await house.book.story(wrong) == ["accepted", "sending", "failed"]
    assert await house.book.rows(
        "SELECT message_id::text, reason, error_code, attempt_count FROM dead_letters ORDER BY reason"
    ) == [(never, "attempts_exhausted", "503", 3), (wrong, "rejected", "21211", 1)]
    letters = {letter.message_id: (subject, letter) for subject, letter in await _dead_letters(house, 2)}
    assert set(letters) == {never, wrong}
    subject, letter = letters[never]
    assert (subject, letter.reason, letter.error_code, letter.error_message, letter.attempt_count) == (
        "posthouse.deadletter.sms",
        "attempts_exhausted",
        "503",
        "closed",
        3,
    )
    await house.until_outbox_is_empty()


async def test_expired_messages_fail_and_are_never_sent(house: House, provider: ScriptedProvider) -> None:
    valid = _timestamp(datetime.now(UTC) + timedelta(hours=1))
    late, fine = await house.send("late", "fine", expire_time=valid)
    await house.book.rows("UPDATE messages SET expire_time = now() WHERE id = %s", late)
    await house.dispatch()
    await house.until("failed", late)
    await house.until("sent", fine)
    assert provider.bodies == ["fine"]
    assert await house.book.rows("SELECT error_code FROM messages WHERE id = %s", late) == [("expired",)]
    assert await house.book.rows("SELECT message_id::text, reason FROM dead_letters") == [(late, "expired")]
    assert (await house.book.story(late))[-1] == "failed"
    assert await house.book.rows(_ATTEMPTS, late) == []


async def test_scheduled_messages_are_sent_when_they_are_due_unless_cancelled(
    house: House, provider: ScriptedProvider
) -> None:
    await house.dispatch()
    later = datetime.now(UTC) + timedelta(hours=1)
    stays, waits = await house.send("stays", "waits", send_time=_timestamp(later))
    await house.stub.CancelMessage(pb.CancelMessageRequest(message_id=stays))
    await house.make_due(stays, waits)
    await house.until("sent", waits)
    (goes,) = await house.send("goes", send_time=_timestamp(later))
    await house.bring_forward(0.5, goes)
    await house.until("sent", goes)
    assert provider.bodies == ["waits", "goes"]
    assert await house.book.story(goes) == ["scheduled", "sending", "sent"]
    assert await house.book.story(stays) == ["scheduled", "cancelled"]
    assert await house.book.value("SELECT attempt_time >= send_time FROM messages WHERE id = %s", goes)
    await house.until_outbox_is_empty()


async def test_outcomes_that_do_not_match_the_messages_are_unknown(
    house: House, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def too_few(messages: Any) -> list[Any]:
        return [Accepted("P1")] * (len(messages) - 1)

    monkeypatch.setattr(provider, "send", too_few)
    await house.dispatch()
    ids = await house.send("one", "two")
    await house.until("unknown", *ids)
    assert await house.book.rows("SELECT DISTINCT error_code FROM messages") == [("provider_error",)]


def _timestamp(time: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(time)
    return made
