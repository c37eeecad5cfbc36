"""Resources with every field set, as the services would answer with them."""

from google.protobuf.timestamp_pb2 import Timestamp

from posthouse.v1 import conversation_pb2, dispatch_pb2, message_pb2

NOON = Timestamp(seconds=1_800_000_000, nanos=123_456_000)
NOON_TEXT = "2027-01-15T08:00:00.123456Z"

SEND = {"from": "+15551234567", "to": "+15559876543", "body": "hello"}


def message() -> message_pb2.Message:
    return message_pb2.Message(
        id="m1",
        conversation_id="c1",
        channel=message_pb2.CHANNEL_MMS,
        direction=message_pb2.DIRECTION_OUTBOUND,
        state=message_pb2.MESSAGE_STATE_DELIVERED,
        sender="+15551234567",
        recipient="+15559876543",
        sender_original="(555) 123-4567",
        recipient_original="(555) 987-6543",
        subject="s",
        body="b",
        html="<p>",
        attachments=[
            message_pb2.Attachment(url="https://e.com/a.jpg"),
            message_pb2.Attachment(content=b"\x00\xff"),
        ],
        metadata={"k": "v"},
        priority=message_pb2.PRIORITY_HIGH,
        segment_count=2,
        segment_encoding=message_pb2.SEGMENT_ENCODING_UCS2,
        create_time=NOON,
        update_time=NOON,
        message_time=NOON,
        send_time=NOON,
        expire_time=NOON,
        next_attempt_time=NOON,
        attempt_count=1,
        provider="simulator",
        provider_message_id="p1",
        error_code="e",
        error_message="why",
    )


def conversation_change() -> conversation_pb2.ConversationChange:
    return conversation_pb2.ConversationChange(
        id="x1",
        conversation_id="c1",
        type="language_changed",
        create_time=NOON,
        old_value="es",
        new_value="en",
        confidence=0.95,
        source="message",
        message_id="m1",
    )


def bare_message() -> message_pb2.Message:
    return message_pb2.Message(
        id="m2",
        conversation_id="c1",
        channel=message_pb2.CHANNEL_SMS,
        direction=message_pb2.DIRECTION_INBOUND,
        state=message_pb2.MESSAGE_STATE_RECEIVED,
        create_time=NOON,
        update_time=NOON,
    )


def conversation() -> conversation_pb2.Conversation:
    return conversation_pb2.Conversation(
        id="c1",
        channel_family=conversation_pb2.CHANNEL_FAMILY_SMS,
        participants=["+15551234567", "+15559876543"],
        create_time=NOON,
        last_message_time=NOON,
        last_message_id="m1",
        message_count=2**40,
        unread_count=1,
        workflow_type="collections",
        tenant_id="t1",
        language="es",
        language_confidence=0.95,
        metadata={"k": "v"},
    )


def attempt() -> dispatch_pb2.DispatchAttempt:
    return dispatch_pb2.DispatchAttempt(
        message_id="m1",
        number=1,
        provider="simulator",
        outcome=dispatch_pb2.ATTEMPT_OUTCOME_RETRYABLE,
        start_time=NOON,
        end_time=NOON,
        error_code="rate_limited",
    )


def dead_letter() -> dispatch_pb2.DeadLetter:
    return dispatch_pb2.DeadLetter(
        message_id="m1",
        channel=message_pb2.CHANNEL_SMS,
        reason="rejected",
        attempt_count=3,
        create_time=NOON,
    )


def provider() -> dispatch_pb2.Provider:
    return dispatch_pb2.Provider(
        name="simulator",
        channel=message_pb2.CHANNEL_SMS,
        route_position=1,
        breaker_state=dispatch_pb2.BREAKER_STATE_HALF_OPEN,
        healthy=True,
    )
