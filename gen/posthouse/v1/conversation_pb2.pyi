import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ChannelFamily(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHANNEL_FAMILY_UNSPECIFIED: _ClassVar[ChannelFamily]
    CHANNEL_FAMILY_SMS: _ClassVar[ChannelFamily]
    CHANNEL_FAMILY_EMAIL: _ClassVar[ChannelFamily]
    CHANNEL_FAMILY_VOICE: _ClassVar[ChannelFamily]
CHANNEL_FAMILY_UNSPECIFIED: ChannelFamily
CHANNEL_FAMILY_SMS: ChannelFamily
CHANNEL_FAMILY_EMAIL: ChannelFamily
CHANNEL_FAMILY_VOICE: ChannelFamily

class Conversation(_message.Message):
    __slots__ = ("id", "channel_family", "participants", "create_time", "last_message_time", "last_message_id", "message_count", "unread_count", "archive_time", "workflow_type", "workflow_id", "tenant_id", "language", "metadata", "language_confidence")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FAMILY_FIELD_NUMBER: _ClassVar[int]
    PARTICIPANTS_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_MESSAGE_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    UNREAD_COUNT_FIELD_NUMBER: _ClassVar[int]
    ARCHIVE_TIME_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_TYPE_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    id: str
    channel_family: ChannelFamily
    participants: _containers.RepeatedScalarFieldContainer[str]
    create_time: _timestamp_pb2.Timestamp
    last_message_time: _timestamp_pb2.Timestamp
    last_message_id: str
    message_count: int
    unread_count: int
    archive_time: _timestamp_pb2.Timestamp
    workflow_type: str
    workflow_id: str
    tenant_id: str
    language: str
    metadata: _containers.ScalarMap[str, str]
    language_confidence: float
    def __init__(self, id: _Optional[str] = ..., channel_family: _Optional[_Union[ChannelFamily, str]] = ..., participants: _Optional[_Iterable[str]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_message_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_message_id: _Optional[str] = ..., message_count: _Optional[int] = ..., unread_count: _Optional[int] = ..., archive_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., workflow_type: _Optional[str] = ..., workflow_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., language: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ..., language_confidence: _Optional[float] = ...) -> None: ...

class ConversationChange(_message.Message):
    __slots__ = ("id", "conversation_id", "type", "create_time", "old_value", "new_value", "confidence", "source", "message_id")
    ID_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    OLD_VALUE_FIELD_NUMBER: _ClassVar[int]
    NEW_VALUE_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    conversation_id: str
    type: str
    create_time: _timestamp_pb2.Timestamp
    old_value: str
    new_value: str
    confidence: float
    source: str
    message_id: str
    def __init__(self, id: _Optional[str] = ..., conversation_id: _Optional[str] = ..., type: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., old_value: _Optional[str] = ..., new_value: _Optional[str] = ..., confidence: _Optional[float] = ..., source: _Optional[str] = ..., message_id: _Optional[str] = ...) -> None: ...
