"""Messages from contacts: taken as far as they can be, and always storable."""

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from services.kit.errors import InvalidRequestError
from services.ledger.drafts import Draft
from services.ledger.threading import conversation_id
from services.message.validation import inbound_draft
from services.providers.base import Inbound

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ANN, BOB = "+15551234567", "+15559876543"


def inbound(**fields: Any) -> Inbound:
    return Inbound(**{"event_key": "e1", "channel": "sms", "sender": BOB, "recipient": ANN, **fields})


def draft_of(**fields: Any) -> Draft:
    return inbound_draft(inbound(**fields), now=NOW, source="simulator", webhook_log_id="w1")


def test_a_reply_joins_the_conversation_of_the_send() -> None:
    draft = draft_of(body="Yes", provider_message_id="SM1", sender="+1 555 987 6543")
    assert draft == Draft(
        channel="sms",
        direction="inbound",
        sender=BOB,
        recipient=ANN,
        conversation_id=conversation_id("sms", ANN, BOB),
        family="sms",
        participant_a=ANN,
        participant_b=BOB,
        body="Yes",
        sender_original="+1 555 987 6543",
        segment_count=1,
        segment_encoding="gsm7",
        message_time=NOW,
        source="simulator",
        event_key="e1",
        provider_message_id="SM1",
        webhook_log_id="w1",
        keyword="YES",
    )


@pytest.mark.parametrize(
    ("fields", "channel"),
    [
        ({}, "sms"),
        ({"channel": ""}, "sms"),
        ({"attachments": [{"url": "https://example.com/a"}]}, "mms"),
        ({"channel": "mms"}, "mms"),
        ({"channel": "pigeon"}, "pigeon"),
        ({"sender": "12345"}, "sms"),
        ({"sender": "Bank", "recipient": "54321"}, "sms"),
        ({"channel": "", "sender": "Bob <b@example.com>", "recipient": "a@example.com"}, "email"),
        ({"channel": "email", "sender": "b@example.com", "recipient": "a@example.com"}, "email"),
    ],
)
def test_channels_are_taken_or_detected(fields: dict[str, Any], channel: str) -> None:
    draft = draft_of(**fields)
    assert draft.channel == channel
    assert draft.segment_count == 0  # without a body, whatever the channel
    assert draft.segment_encoding == ("gsm7" if channel == "sms" else None)


@pytest.mark.parametrize(
    ("fields", "faulty"),
    [
        ({"sender": "nobody at all"}, ["sender"]),
        ({"sender": "", "recipient": "?"}, ["sender", "recipient"]),
        ({"recipient": "a@example.com"}, ["recipient"]),
        ({"channel": "email"}, ["sender", "recipient"]),
    ],
)
def test_addresses_that_cannot_be_read_or_do_not_fit_are_refused(
    fields: dict[str, Any], faulty: list[str]
) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        draft_of(**fields)
    assert [violation.field for violation in refused.value.violations] == faulty


def test_what_postgresql_cannot_store_is_removed() -> None:
    draft = draft_of(
        channel="email",
        sender="b@example.com",
        recipient="a@example.com",
        body="a\0b\ud83d",
        subject="\0",
        html="<p>\0é</p>",
        metadata={"k\0": "v\0"},
        attachments=[{"url": "https://example.com/\0", "size": 3}],
        event_key="e\x001",
    )
    assert draft.body == "ab\ufffd"
    assert draft.subject is None
    assert draft.html == "<p>é</p>"
    assert orjson.loads(draft.metadata or "") == {"k": "v"}
    assert orjson.loads(draft.attachments or "") == [{"url": "https://example.com/", "size": 3}]
    assert draft.event_key == "e1"


def test_an_empty_body_is_fine() -> None:
    draft = draft_of(body="")
    assert (draft.body, draft.segment_count) == ("", 0)


def test_segments_fit_their_column() -> None:
    assert draft_of(body="a" * 153 * 32_768).segment_count == 32_767


@pytest.mark.parametrize(
    ("told", "stored"),
    [
        (None, NOW),
        (NOW - timedelta(hours=1), NOW - timedelta(hours=1)),
        (NOW + timedelta(hours=1), NOW),
        (datetime(2026, 3, 1, 11), datetime(2026, 3, 1, 11, tzinfo=UTC)),  # noqa: DTZ001 the case itself
    ],
)
def test_message_time_is_the_providers_but_never_ahead(told: datetime | None, stored: datetime) -> None:
    assert draft_of(provider_time=told).message_time == stored
