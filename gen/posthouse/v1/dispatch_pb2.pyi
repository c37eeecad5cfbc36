import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from posthouse.v1 import message_pb2 as _message_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BreakerState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BREAKER_STATE_UNSPECIFIED: _ClassVar[BreakerState]
    BREAKER_STATE_CLOSED: _ClassVar[BreakerState]
    BREAKER_STATE_OPEN: _ClassVar[BreakerState]
    BREAKER_STATE_HALF_OPEN: _ClassVar[BreakerState]

class AttemptOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ATTEMPT_OUTCOME_UNSPECIFIED: _ClassVar[AttemptOutcome]
    ATTEMPT_OUTCOME_ACCEPTED: _ClassVar[AttemptOutcome]
    ATTEMPT_OUTCOME_RETRYABLE: _ClassVar[AttemptOutcome]
    ATTEMPT_OUTCOME_REJECTED: _ClassVar[AttemptOutcome]
    ATTEMPT_OUTCOME_UNKNOWN: _ClassVar[AttemptOutcome]
BREAKER_STATE_UNSPECIFIED: BreakerState
BREAKER_STATE_CLOSED: BreakerState
BREAKER_STATE_OPEN: BreakerState
BREAKER_STATE_HALF_OPEN: BreakerState
ATTEMPT_OUTCOME_UNSPECIFIED: AttemptOutcome
ATTEMPT_OUTCOME_ACCEPTED: AttemptOutcome
ATTEMPT_OUTCOME_RETRYABLE: AttemptOutcome
ATTEMPT_OUTCOME_REJECTED: AttemptOutcome
ATTEMPT_OUTCOME_UNKNOWN: AttemptOutcome

class Provider(_message.Message):
    __slots__ = ("name", "channel", "route_position", "breaker_state", "healthy")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    ROUTE_POSITION_FIELD_NUMBER: _ClassVar[int]
    BREAKER_STATE_FIELD_NUMBER: _ClassVar[int]
    HEALTHY_FIELD_NUMBER: _ClassVar[int]
    name: str
    channel: _message_pb2.Channel
    route_position: int
    breaker_state: BreakerState
    healthy: bool
    def __init__(self, name: _Optional[str] = ..., channel: _Optional[_Union[_message_pb2.Channel, str]] = ..., route_position: _Optional[int] = ..., breaker_state: _Optional[_Union[BreakerState, str]] = ..., healthy: _Optional[bool] = ...) -> None: ...

class DispatchAttempt(_message.Message):
    __slots__ = ("message_id", "number", "provider", "outcome", "start_time", "end_time", "provider_message_id", "error_code", "error_message", "route_reason")
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
    ERROR_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ROUTE_REASON_FIELD_NUMBER: _ClassVar[int]
    message_id: str
    number: int
    provider: str
    outcome: AttemptOutcome
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    provider_message_id: str
    error_code: str
    error_message: str
    route_reason: str
    def __init__(self, message_id: _Optional[str] = ..., number: _Optional[int] = ..., provider: _Optional[str] = ..., outcome: _Optional[_Union[AttemptOutcome, str]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., provider_message_id: _Optional[str] = ..., error_code: _Optional[str] = ..., error_message: _Optional[str] = ..., route_reason: _Optional[str] = ...) -> None: ...

class DeadLetter(_message.Message):
    __slots__ = ("message_id", "channel", "provider", "reason", "error_code", "error_message", "attempt_count", "create_time", "replay_time")
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
    ERROR_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_COUNT_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    REPLAY_TIME_FIELD_NUMBER: _ClassVar[int]
    message_id: str
    channel: _message_pb2.Channel
    provider: str
    reason: str
    error_code: str
    error_message: str
    attempt_count: int
    create_time: _timestamp_pb2.Timestamp
    replay_time: _timestamp_pb2.Timestamp
    def __init__(self, message_id: _Optional[str] = ..., channel: _Optional[_Union[_message_pb2.Channel, str]] = ..., provider: _Optional[str] = ..., reason: _Optional[str] = ..., error_code: _Optional[str] = ..., error_message: _Optional[str] = ..., attempt_count: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., replay_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class SimulatorProfile(_message.Message):
    __slots__ = ("channel", "rate_limited_rate", "server_error_rate", "timeout_rate", "rejected_rate", "latency_ms", "callback_delay_ms", "callback_duplicate_rate", "callback_loss_rate", "callback_reorder_rate", "undelivered_rate", "reply_rate", "reply_delay_ms", "reply_text", "seed", "lost_rate")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    RATE_LIMITED_RATE_FIELD_NUMBER: _ClassVar[int]
    SERVER_ERROR_RATE_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_RATE_FIELD_NUMBER: _ClassVar[int]
    REJECTED_RATE_FIELD_NUMBER: _ClassVar[int]
    LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    CALLBACK_DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    CALLBACK_DUPLICATE_RATE_FIELD_NUMBER: _ClassVar[int]
    CALLBACK_LOSS_RATE_FIELD_NUMBER: _ClassVar[int]
    CALLBACK_REORDER_RATE_FIELD_NUMBER: _ClassVar[int]
    UNDELIVERED_RATE_FIELD_NUMBER: _ClassVar[int]
    REPLY_RATE_FIELD_NUMBER: _ClassVar[int]
    REPLY_DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    REPLY_TEXT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    LOST_RATE_FIELD_NUMBER: _ClassVar[int]
    channel: _message_pb2.Channel
    rate_limited_rate: float
    server_error_rate: float
    timeout_rate: float
    rejected_rate: float
    latency_ms: int
    callback_delay_ms: int
    callback_duplicate_rate: float
    callback_loss_rate: float
    callback_reorder_rate: float
    undelivered_rate: float
    reply_rate: float
    reply_delay_ms: int
    reply_text: str
    seed: int
    lost_rate: float
    def __init__(self, channel: _Optional[_Union[_message_pb2.Channel, str]] = ..., rate_limited_rate: _Optional[float] = ..., server_error_rate: _Optional[float] = ..., timeout_rate: _Optional[float] = ..., rejected_rate: _Optional[float] = ..., latency_ms: _Optional[int] = ..., callback_delay_ms: _Optional[int] = ..., callback_duplicate_rate: _Optional[float] = ..., callback_loss_rate: _Optional[float] = ..., callback_reorder_rate: _Optional[float] = ..., undelivered_rate: _Optional[float] = ..., reply_rate: _Optional[float] = ..., reply_delay_ms: _Optional[int] = ..., reply_text: _Optional[str] = ..., seed: _Optional[int] = ..., lost_rate: _Optional[float] = ...) -> None: ...
