import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from posthouse.v1 import dispatch_pb2 as _dispatch_pb2
from posthouse.v1 import message_pb2 as _message_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListProvidersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListProvidersResponse(_message.Message):
    __slots__ = ("providers",)
    PROVIDERS_FIELD_NUMBER: _ClassVar[int]
    providers: _containers.RepeatedCompositeFieldContainer[_dispatch_pb2.Provider]
    def __init__(self, providers: _Optional[_Iterable[_Union[_dispatch_pb2.Provider, _Mapping]]] = ...) -> None: ...

class ListDispatchAttemptsRequest(_message.Message):
    __slots__ = ("message_id",)
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    message_id: str
    def __init__(self, message_id: _Optional[str] = ...) -> None: ...

class ListDispatchAttemptsResponse(_message.Message):
    __slots__ = ("attempts",)
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    attempts: _containers.RepeatedCompositeFieldContainer[_dispatch_pb2.DispatchAttempt]
    def __init__(self, attempts: _Optional[_Iterable[_Union[_dispatch_pb2.DispatchAttempt, _Mapping]]] = ...) -> None: ...

class ListDeadLettersRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "channel", "reason", "include_replayed", "provider", "error_code", "since_time", "until_time")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_REPLAYED_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
    SINCE_TIME_FIELD_NUMBER: _ClassVar[int]
    UNTIL_TIME_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    channel: _message_pb2.Channel
    reason: str
    include_replayed: bool
    provider: str
    error_code: str
    since_time: _timestamp_pb2.Timestamp
    until_time: _timestamp_pb2.Timestamp
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., channel: _Optional[_Union[_message_pb2.Channel, str]] = ..., reason: _Optional[str] = ..., include_replayed: _Optional[bool] = ..., provider: _Optional[str] = ..., error_code: _Optional[str] = ..., since_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., until_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListDeadLettersResponse(_message.Message):
    __slots__ = ("dead_letters", "next_page_token")
    DEAD_LETTERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    dead_letters: _containers.RepeatedCompositeFieldContainer[_dispatch_pb2.DeadLetter]
    next_page_token: str
    def __init__(self, dead_letters: _Optional[_Iterable[_Union[_dispatch_pb2.DeadLetter, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ReplayDeadLettersRequest(_message.Message):
    __slots__ = ("message_ids", "filter")
    MESSAGE_IDS_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    message_ids: _containers.RepeatedScalarFieldContainer[str]
    filter: DeadLetterFilter
    def __init__(self, message_ids: _Optional[_Iterable[str]] = ..., filter: _Optional[_Union[DeadLetterFilter, _Mapping]] = ...) -> None: ...

class DeadLetterFilter(_message.Message):
    __slots__ = ("channel", "reason", "provider", "error_code", "since_time", "until_time")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
    SINCE_TIME_FIELD_NUMBER: _ClassVar[int]
    UNTIL_TIME_FIELD_NUMBER: _ClassVar[int]
    channel: _message_pb2.Channel
    reason: str
    provider: str
    error_code: str
    since_time: _timestamp_pb2.Timestamp
    until_time: _timestamp_pb2.Timestamp
    def __init__(self, channel: _Optional[_Union[_message_pb2.Channel, str]] = ..., reason: _Optional[str] = ..., provider: _Optional[str] = ..., error_code: _Optional[str] = ..., since_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., until_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ReplayDeadLettersResponse(_message.Message):
    __slots__ = ("replayed_message_ids", "replayed_count", "more")
    REPLAYED_MESSAGE_IDS_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_COUNT_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    replayed_message_ids: _containers.RepeatedScalarFieldContainer[str]
    replayed_count: int
    more: bool
    def __init__(self, replayed_message_ids: _Optional[_Iterable[str]] = ..., replayed_count: _Optional[int] = ..., more: _Optional[bool] = ...) -> None: ...

class ResolveMessageRequest(_message.Message):
    __slots__ = ("message_id", "state", "reason")
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    message_id: str
    state: _message_pb2.MessageState
    reason: str
    def __init__(self, message_id: _Optional[str] = ..., state: _Optional[_Union[_message_pb2.MessageState, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class ResolveMessageResponse(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: _message_pb2.Message
    def __init__(self, message: _Optional[_Union[_message_pb2.Message, _Mapping]] = ...) -> None: ...

class ResetBreakerRequest(_message.Message):
    __slots__ = ("provider", "channel")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    provider: str
    channel: _message_pb2.Channel
    def __init__(self, provider: _Optional[str] = ..., channel: _Optional[_Union[_message_pb2.Channel, str]] = ...) -> None: ...

class ResetBreakerResponse(_message.Message):
    __slots__ = ("provider",)
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    provider: _dispatch_pb2.Provider
    def __init__(self, provider: _Optional[_Union[_dispatch_pb2.Provider, _Mapping]] = ...) -> None: ...

class GetSimulatorProfileRequest(_message.Message):
    __slots__ = ("channel",)
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    channel: _message_pb2.Channel
    def __init__(self, channel: _Optional[_Union[_message_pb2.Channel, str]] = ...) -> None: ...

class GetSimulatorProfileResponse(_message.Message):
    __slots__ = ("profiles",)
    PROFILES_FIELD_NUMBER: _ClassVar[int]
    profiles: _containers.RepeatedCompositeFieldContainer[_dispatch_pb2.SimulatorProfile]
    def __init__(self, profiles: _Optional[_Iterable[_Union[_dispatch_pb2.SimulatorProfile, _Mapping]]] = ...) -> None: ...

class SetSimulatorProfileRequest(_message.Message):
    __slots__ = ("profile",)
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    profile: _dispatch_pb2.SimulatorProfile
    def __init__(self, profile: _Optional[_Union[_dispatch_pb2.SimulatorProfile, _Mapping]] = ...) -> None: ...

class SetSimulatorProfileResponse(_message.Message):
    __slots__ = ("profiles",)
    PROFILES_FIELD_NUMBER: _ClassVar[int]
    profiles: _containers.RepeatedCompositeFieldContainer[_dispatch_pb2.SimulatorProfile]
    def __init__(self, profiles: _Optional[_Iterable[_Union[_dispatch_pb2.SimulatorProfile, _Mapping]]] = ...) -> None: ...
