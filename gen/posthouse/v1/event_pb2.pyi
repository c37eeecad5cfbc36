import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from posthouse.v1 import message_pb2 as _message_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DispatchEnvelope(_message.Message):
    __slots__ = ("outbox_id", "message_ids")
    OUTBOX_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_IDS_FIELD_NUMBER: _ClassVar[int]
    outbox_id: str
    message_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, outbox_id: _Optional[str] = ..., message_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("id", "type", "create_time", "message_id", "conversation_id", "channel", "direction", "state", "sender", "recipient", "provider", "error_code", "attempt_number", "subscription_id")
    ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_NUMBER_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTION_ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    type: str
    create_time: _timestamp_pb2.Timestamp
    message_id: str
    conversation_id: str
    channel: _message_pb2.Channel
    direction: _message_pb2.Direction
    state: _message_pb2.MessageState
    sender: str
    recipient: str
    provider: str
    error_code: str
    attempt_number: int
    subscription_id: str
    def __init__(self, id: _Optional[str] = ..., type: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., message_id: _Optional[str] = ..., conversation_id: _Optional[str] = ..., channel: _Optional[_Union[_message_pb2.Channel, str]] = ..., direction: _Optional[_Union[_message_pb2.Direction, str]] = ..., state: _Optional[_Union[_message_pb2.MessageState, str]] = ..., sender: _Optional[str] = ..., recipient: _Optional[str] = ..., provider: _Optional[str] = ..., error_code: _Optional[str] = ..., attempt_number: _Optional[int] = ..., subscription_id: _Optional[str] = ...) -> None: ...

class EventBatch(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    def __init__(self, events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ...) -> None: ...
