"""Events are encoded piece by piece; what comes out is what protobuf makes of the whole."""

from datetime import UTC, datetime

import psutil
import pytest

from posthouse.v1 import event_pb2, message_pb2
from services.ledger.event_batches import encode_event, group_by_subject, make_timestamp

_TIME = datetime(2026, 3, 1, 12, 30, 45, 678_901, tzinfo=UTC)
_FACTS = {
    "message_id": "018f0000-0000-7000-8000-000000000001",
    "create_time": _TIME,
    "conversation_id": "89997e8c-b501-515f-8819-ecb46925d0fb",
    "channel": "email",
    "direction": "outbound",
    "sender": "us@example.com",
}


def _whole(sequence: int, kind: str, recipient: str, **fields: object) -> event_pb2.Event:
    return event_pb2.Event(
        id=f"{_FACTS['message_id']}.{sequence}",
        type=kind,
        create_time=make_timestamp(_TIME),
        message_id=str(_FACTS["message_id"]),
        conversation_id=str(_FACTS["conversation_id"]),
        channel=message_pb2.CHANNEL_EMAIL,
        direction=message_pb2.DIRECTION_OUTBOUND,
        sender=str(_FACTS["sender"]),
        recipient=recipient,
        **fields,
    )


# Lengths on both sides of those that take another byte: 127 and 16,383 of the whole event.
@pytest.mark.parametrize("length", [1, 20, 100, 127, 128, 300, 16_100, 16_300, 16_384, 70_000])
def test_a_batch_is_what_protobuf_makes_of_it(length: int) -> None:
    long = "ü" * length
    encoded = [
        encode_event(sequence=1, type="accepted", recipient=long, **_FACTS),
        encode_event(
            sequence=2,
            type="failed",
            recipient="b",
            provider="sendgrid",
            error_code="550",
            attempt_number=3,
            **_FACTS,
        ),
        encode_event(sequence=3, type="accepted", recipient="", **_FACTS),
    ]
    batches = dict(group_by_subject(encoded))
    pending, failed = message_pb2.MESSAGE_STATE_PENDING, message_pb2.MESSAGE_STATE_FAILED
    assert list(batches) == ["posthouse.event.message.accepted", "posthouse.event.message.failed"]
    accepted = event_pb2.EventBatch.FromString(batches["posthouse.event.message.accepted"])
    assert list(accepted.events) == [
        _whole(1, "accepted", long, state=pending),
        _whole(3, "accepted", "", state=pending),
    ]
    late = event_pb2.EventBatch.FromString(batches["posthouse.event.message.failed"])
    assert list(late.events) == [
        _whole(2, "failed", "b", state=failed, provider="sendgrid", error_code="550", attempt_number=3)
    ]


def test_large_groups_are_split() -> None:
    encoded = [
        encode_event(sequence=number, type="sent", recipient="b", **_FACTS) for number in range(1, 1002)
    ]
    sizes = [len(event_pb2.EventBatch.FromString(payload).events) for _, payload in group_by_subject(encoded)]
    assert sizes == [1000, 1]


def test_encoding_keeps_no_memory() -> None:
    process, used = psutil.Process(), []
    for _ in range(2):
        for number in range(50_000):
            encode_event(sequence=number, type="sent", recipient="b" * 100, **_FACTS)
        used.append(process.memory_info().rss)
    assert used[1] - used[0] < 3_000_000
