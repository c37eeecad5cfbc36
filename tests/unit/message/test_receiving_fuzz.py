"""What other systems hand over, under fire: it is refused by the names of its fields, or it can be stored."""

from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from posthouse.v1 import message_pb2
from posthouse.v1 import message_service_pb2 as pb
from services.kit.errors import InvalidRequestError
from services.message.receiving import read_inbound
from services.providers.registry import known_providers
from tests.unit.message.drafts import check_storable

# What a protobuf string can be: no lone surrogates.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
ADDRESS = TEXT | st.sampled_from(
    [
        "+15551234567",
        "(555) 987-6543",
        "12345",
        "Bank",
        "ann@example.com",
        "Ann <ann@example.com>",
        "tel:+1",
        "@",
    ]
)
FIELDS = st.fixed_dictionaries(
    {
        "source": TEXT | st.just("crm"),
        "event_id": TEXT | st.just("1"),
        "sender": ADDRESS,
        "recipient": ADDRESS,
    },
    optional={
        "channel": st.integers(-1, 6),
        "body": TEXT,
        "subject": TEXT,
        "html": TEXT,
        "attachments": st.lists(
            st.builds(message_pb2.Attachment, url=TEXT, content_type=TEXT, filename=TEXT), max_size=3
        ),
        "message_time": st.builds(
            Timestamp,
            seconds=st.integers(-(1 << 63), (1 << 63) - 1),
            nanos=st.integers(-(1 << 31), (1 << 31) - 1),
        ),
        "metadata": st.dictionaries(TEXT, TEXT, max_size=3),
    },
)


@pytest.mark.parametrize("source", ["sendgrid", "simulator", "smtp", "twilio"])
def test_nobody_speaks_for_a_provider(source: str) -> None:
    message = pb.InboundMessage(
        source=source, event_id="SM1", sender="+15551234567", recipient="+15559876543", body="hi"
    )
    with pytest.raises(InvalidRequestError) as refused:
        read_inbound(message, known_providers(), now=datetime.now(UTC))
    assert [violation.field for violation in refused.value.violations] == ["source"]


@given(FIELDS)
def test_no_message_is_unexpected(fields: dict[str, Any]) -> None:
    try:
        draft = read_inbound(pb.InboundMessage(**fields), {"twilio"}, now=datetime.now(UTC))
    except InvalidRequestError as error:
        assert error.violations  # noqa: PT017 either outcome is right; each has its own promise
        return
    check_storable(draft)
