import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from posthouse.v1 import conversation_pb2 as _conversation_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ConsentChange(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONSENT_CHANGE_UNSPECIFIED: _ClassVar[ConsentChange]
    CONSENT_CHANGE_OPTED_OUT: _ClassVar[ConsentChange]
    CONSENT_CHANGE_OPTED_IN: _ClassVar[ConsentChange]
    CONSENT_CHANGE_HELP: _ClassVar[ConsentChange]
    CONSENT_CHANGE_OVERRIDDEN: _ClassVar[ConsentChange]

class ConsentSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONSENT_SOURCE_UNSPECIFIED: _ClassVar[ConsentSource]
    CONSENT_SOURCE_CONTACT: _ClassVar[ConsentSource]
    CONSENT_SOURCE_PROVIDER: _ClassVar[ConsentSource]
    CONSENT_SOURCE_API: _ClassVar[ConsentSource]
CONSENT_CHANGE_UNSPECIFIED: ConsentChange
CONSENT_CHANGE_OPTED_OUT: ConsentChange
CONSENT_CHANGE_OPTED_IN: ConsentChange
CONSENT_CHANGE_HELP: ConsentChange
CONSENT_CHANGE_OVERRIDDEN: ConsentChange
CONSENT_SOURCE_UNSPECIFIED: ConsentSource
CONSENT_SOURCE_CONTACT: ConsentSource
CONSENT_SOURCE_PROVIDER: ConsentSource
CONSENT_SOURCE_API: ConsentSource

class OptOut(_message.Message):
    __slots__ = ("sender", "recipient", "channel_family", "source", "keyword", "reason", "message_id", "create_time")
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FAMILY_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    KEYWORD_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    sender: str
    recipient: str
    channel_family: _conversation_pb2.ChannelFamily
    source: ConsentSource
    keyword: str
    reason: str
    message_id: str
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, sender: _Optional[str] = ..., recipient: _Optional[str] = ..., channel_family: _Optional[_Union[_conversation_pb2.ChannelFamily, str]] = ..., source: _Optional[_Union[ConsentSource, str]] = ..., keyword: _Optional[str] = ..., reason: _Optional[str] = ..., message_id: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ConsentEvent(_message.Message):
    __slots__ = ("id", "sender", "recipient", "channel_family", "change", "source", "keyword", "reason", "message_id", "effective", "event_time", "create_time")
    ID_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FAMILY_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    KEYWORD_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    id: str
    sender: str
    recipient: str
    channel_family: _conversation_pb2.ChannelFamily
    change: ConsentChange
    source: ConsentSource
    keyword: str
    reason: str
    message_id: str
    effective: bool
    event_time: _timestamp_pb2.Timestamp
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., sender: _Optional[str] = ..., recipient: _Optional[str] = ..., channel_family: _Optional[_Union[_conversation_pb2.ChannelFamily, str]] = ..., change: _Optional[_Union[ConsentChange, str]] = ..., source: _Optional[_Union[ConsentSource, str]] = ..., keyword: _Optional[str] = ..., reason: _Optional[str] = ..., message_id: _Optional[str] = ..., effective: _Optional[bool] = ..., event_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
