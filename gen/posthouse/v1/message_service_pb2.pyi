import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from posthouse.v1 import consent_pb2 as _consent_pb2
from posthouse.v1 import conversation_pb2 as _conversation_pb2
from posthouse.v1 import message_pb2 as _message_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SendMessageRequest(_message.Message):
    __slots__ = ("sender", "recipient", "channel", "body", "subject", "html", "attachments", "metadata", "send_time", "expire_time", "priority", "request_id", "fail_fast", "transactional", "sender_pool", "reply_to")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    HTML_FIELD_NUMBER: _ClassVar[int]
    ATTACHMENTS_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    SEND_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    FAIL_FAST_FIELD_NUMBER: _ClassVar[int]
    TRANSACTIONAL_FIELD_NUMBER: _ClassVar[int]
    SENDER_POOL_FIELD_NUMBER: _ClassVar[int]
    REPLY_TO_FIELD_NUMBER: _ClassVar[int]
    sender: str
    recipient: str
    channel: _message_pb2.Channel
    body: str
    subject: str
    html: str
    attachments: _containers.RepeatedCompositeFieldContainer[_message_pb2.Attachment]
    metadata: _containers.ScalarMap[str, str]
    send_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    priority: _message_pb2.Priority
    request_id: str
    fail_fast: bool
    transactional: bool
    sender_pool: str
    reply_to: str
    def __init__(self, sender: _Optional[str] = ..., recipient: _Optional[str] = ..., channel: _Optional[_Union[_message_pb2.Channel, str]] = ..., body: _Optional[str] = ..., subject: _Optional[str] = ..., html: _Optional[str] = ..., attachments: _Optional[_Iterable[_Union[_message_pb2.Attachment, _Mapping]]] = ..., metadata: _Optional[_Mapping[str, str]] = ..., send_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., priority: _Optional[_Union[_message_pb2.Priority, str]] = ..., request_id: _Optional[str] = ..., fail_fast: _Optional[bool] = ..., transactional: _Optional[bool] = ..., sender_pool: _Optional[str] = ..., reply_to: _Optional[str] = ...) -> None: ...

class AcceptedMessage(_message.Message):
    __slots__ = ("id", "conversation_id", "channel", "state", "sender", "recipient", "segment_count", "segment_encoding", "create_time", "send_time", "replayed")
    ID_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_ENCODING_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    SEND_TIME_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    id: str
    conversation_id: str
    channel: _message_pb2.Channel
    state: _message_pb2.MessageState
    sender: str
    recipient: str
    segment_count: int
    segment_encoding: _message_pb2.SegmentEncoding
    create_time: _timestamp_pb2.Timestamp
    send_time: _timestamp_pb2.Timestamp
    replayed: bool
    def __init__(self, id: _Optional[str] = ..., conversation_id: _Optional[str] = ..., channel: _Optional[_Union[_message_pb2.Channel, str]] = ..., state: _Optional[_Union[_message_pb2.MessageState, str]] = ..., sender: _Optional[str] = ..., recipient: _Optional[str] = ..., segment_count: _Optional[int] = ..., segment_encoding: _Optional[_Union[_message_pb2.SegmentEncoding, str]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., send_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., replayed: _Optional[bool] = ...) -> None: ...

class SendMessageResponse(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: AcceptedMessage
    def __init__(self, message: _Optional[_Union[AcceptedMessage, _Mapping]] = ...) -> None: ...

class SendMessagesRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[SendMessageRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[SendMessageRequest, _Mapping]]] = ...) -> None: ...

class SendMessagesResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[SendResult]
    def __init__(self, results: _Optional[_Iterable[_Union[SendResult, _Mapping]]] = ...) -> None: ...

class SendResult(_message.Message):
    __slots__ = ("message", "error")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    message: AcceptedMessage
    error: ItemError
    def __init__(self, message: _Optional[_Union[AcceptedMessage, _Mapping]] = ..., error: _Optional[_Union[ItemError, _Mapping]] = ...) -> None: ...

class ItemError(_message.Message):
    __slots__ = ("code", "reason", "message", "field_violations", "retry_after_seconds")
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIELD_VIOLATIONS_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_SECONDS_FIELD_NUMBER: _ClassVar[int]
    code: int
    reason: str
    message: str
    field_violations: _containers.RepeatedCompositeFieldContainer[FieldViolation]
    retry_after_seconds: float
    def __init__(self, code: _Optional[int] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., field_violations: _Optional[_Iterable[_Union[FieldViolation, _Mapping]]] = ..., retry_after_seconds: _Optional[float] = ...) -> None: ...

class FieldViolation(_message.Message):
    __slots__ = ("field", "description")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    field: str
    description: str
    def __init__(self, field: _Optional[str] = ..., description: _Optional[str] = ...) -> None: ...

class GetMessageRequest(_message.Message):
    __slots__ = ("message_id",)
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    message_id: str
    def __init__(self, message_id: _Optional[str] = ...) -> None: ...

class GetMessageResponse(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: _message_pb2.Message
    def __init__(self, message: _Optional[_Union[_message_pb2.Message, _Mapping]] = ...) -> None: ...

class ListMessagesRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "conversation_id", "channel", "state", "direction")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    conversation_id: str
    channel: _message_pb2.Channel
    state: _message_pb2.MessageState
    direction: _message_pb2.Direction
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., conversation_id: _Optional[str] = ..., channel: _Optional[_Union[_message_pb2.Channel, str]] = ..., state: _Optional[_Union[_message_pb2.MessageState, str]] = ..., direction: _Optional[_Union[_message_pb2.Direction, str]] = ...) -> None: ...

class ListMessagesResponse(_message.Message):
    __slots__ = ("messages", "next_page_token")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[_message_pb2.Message]
    next_page_token: str
    def __init__(self, messages: _Optional[_Iterable[_Union[_message_pb2.Message, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListMessageEventsRequest(_message.Message):
    __slots__ = ("message_id", "page_size", "page_token")
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    message_id: str
    page_size: int
    page_token: str
    def __init__(self, message_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListMessageEventsResponse(_message.Message):
    __slots__ = ("events", "next_page_token")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[_message_pb2.MessageEvent]
    next_page_token: str
    def __init__(self, events: _Optional[_Iterable[_Union[_message_pb2.MessageEvent, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CancelMessageRequest(_message.Message):
    __slots__ = ("message_id",)
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    message_id: str
    def __init__(self, message_id: _Optional[str] = ...) -> None: ...

class CancelMessageResponse(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: _message_pb2.Message
    def __init__(self, message: _Optional[_Union[_message_pb2.Message, _Mapping]] = ...) -> None: ...

class PreviewMessageRequest(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: SendMessageRequest
    def __init__(self, message: _Optional[_Union[SendMessageRequest, _Mapping]] = ...) -> None: ...

class PreviewMessageResponse(_message.Message):
    __slots__ = ("acceptable", "refusals", "channel", "sender", "recipient", "conversation_id", "conversation_exists", "segment_encoding", "segment_count", "character_count", "ucs2_characters", "route", "rate_limit", "sender_pool", "sender_kept")
    ACCEPTABLE_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_EXISTS_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_ENCODING_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    CHARACTER_COUNT_FIELD_NUMBER: _ClassVar[int]
    UCS2_CHARACTERS_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    RATE_LIMIT_FIELD_NUMBER: _ClassVar[int]
    SENDER_POOL_FIELD_NUMBER: _ClassVar[int]
    SENDER_KEPT_FIELD_NUMBER: _ClassVar[int]
    acceptable: bool
    refusals: _containers.RepeatedCompositeFieldContainer[ItemError]
    channel: _message_pb2.Channel
    sender: str
    recipient: str
    conversation_id: str
    conversation_exists: bool
    segment_encoding: _message_pb2.SegmentEncoding
    segment_count: int
    character_count: int
    ucs2_characters: _containers.RepeatedScalarFieldContainer[str]
    route: _containers.RepeatedScalarFieldContainer[str]
    rate_limit: RateLimitVerdict
    sender_pool: str
    sender_kept: bool
    def __init__(self, acceptable: _Optional[bool] = ..., refusals: _Optional[_Iterable[_Union[ItemError, _Mapping]]] = ..., channel: _Optional[_Union[_message_pb2.Channel, str]] = ..., sender: _Optional[str] = ..., recipient: _Optional[str] = ..., conversation_id: _Optional[str] = ..., conversation_exists: _Optional[bool] = ..., segment_encoding: _Optional[_Union[_message_pb2.SegmentEncoding, str]] = ..., segment_count: _Optional[int] = ..., character_count: _Optional[int] = ..., ucs2_characters: _Optional[_Iterable[str]] = ..., route: _Optional[_Iterable[str]] = ..., rate_limit: _Optional[_Union[RateLimitVerdict, _Mapping]] = ..., sender_pool: _Optional[str] = ..., sender_kept: _Optional[bool] = ...) -> None: ...

class RateLimitVerdict(_message.Message):
    __slots__ = ("allowed", "limit", "remaining", "reset_seconds")
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    RESET_SECONDS_FIELD_NUMBER: _ClassVar[int]
    allowed: bool
    limit: int
    remaining: int
    reset_seconds: float
    def __init__(self, allowed: _Optional[bool] = ..., limit: _Optional[int] = ..., remaining: _Optional[int] = ..., reset_seconds: _Optional[float] = ...) -> None: ...

class InboundMessage(_message.Message):
    __slots__ = ("source", "event_id", "sender", "recipient", "channel", "body", "subject", "html", "attachments", "message_time", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    HTML_FIELD_NUMBER: _ClassVar[int]
    ATTACHMENTS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_TIME_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    source: str
    event_id: str
    sender: str
    recipient: str
    channel: _message_pb2.Channel
    body: str
    subject: str
    html: str
    attachments: _containers.RepeatedCompositeFieldContainer[_message_pb2.Attachment]
    message_time: _timestamp_pb2.Timestamp
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, source: _Optional[str] = ..., event_id: _Optional[str] = ..., sender: _Optional[str] = ..., recipient: _Optional[str] = ..., channel: _Optional[_Union[_message_pb2.Channel, str]] = ..., body: _Optional[str] = ..., subject: _Optional[str] = ..., html: _Optional[str] = ..., attachments: _Optional[_Iterable[_Union[_message_pb2.Attachment, _Mapping]]] = ..., message_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ReceiveMessagesRequest(_message.Message):
    __slots__ = ("messages",)
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[InboundMessage]
    def __init__(self, messages: _Optional[_Iterable[_Union[InboundMessage, _Mapping]]] = ...) -> None: ...

class ReceiveMessagesResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[ReceiveResult]
    def __init__(self, results: _Optional[_Iterable[_Union[ReceiveResult, _Mapping]]] = ...) -> None: ...

class ReceiveResult(_message.Message):
    __slots__ = ("message_id", "conversation_id", "duplicate", "error")
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    message_id: str
    conversation_id: str
    duplicate: bool
    error: ItemError
    def __init__(self, message_id: _Optional[str] = ..., conversation_id: _Optional[str] = ..., duplicate: _Optional[bool] = ..., error: _Optional[_Union[ItemError, _Mapping]] = ...) -> None: ...

class Header(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class IngestWebhookRequest(_message.Message):
    __slots__ = ("provider", "method", "url", "headers", "body", "remote_address")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    REMOTE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    provider: str
    method: str
    url: str
    headers: _containers.RepeatedCompositeFieldContainer[Header]
    body: bytes
    remote_address: str
    def __init__(self, provider: _Optional[str] = ..., method: _Optional[str] = ..., url: _Optional[str] = ..., headers: _Optional[_Iterable[_Union[Header, _Mapping]]] = ..., body: _Optional[bytes] = ..., remote_address: _Optional[str] = ...) -> None: ...

class IngestWebhookResponse(_message.Message):
    __slots__ = ("http_status", "content_type", "body", "applied_count", "duplicate_count", "webhook_log_id", "refused_count")
    HTTP_STATUS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    APPLIED_COUNT_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_COUNT_FIELD_NUMBER: _ClassVar[int]
    WEBHOOK_LOG_ID_FIELD_NUMBER: _ClassVar[int]
    REFUSED_COUNT_FIELD_NUMBER: _ClassVar[int]
    http_status: int
    content_type: str
    body: bytes
    applied_count: int
    duplicate_count: int
    webhook_log_id: str
    refused_count: int
    def __init__(self, http_status: _Optional[int] = ..., content_type: _Optional[str] = ..., body: _Optional[bytes] = ..., applied_count: _Optional[int] = ..., duplicate_count: _Optional[int] = ..., webhook_log_id: _Optional[str] = ..., refused_count: _Optional[int] = ...) -> None: ...

class IngestWebhooksRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[IngestWebhookRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[IngestWebhookRequest, _Mapping]]] = ...) -> None: ...

class IngestWebhooksResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[WebhookResult]
    def __init__(self, results: _Optional[_Iterable[_Union[WebhookResult, _Mapping]]] = ...) -> None: ...

class WebhookResult(_message.Message):
    __slots__ = ("response", "error")
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    response: IngestWebhookResponse
    error: ItemError
    def __init__(self, response: _Optional[_Union[IngestWebhookResponse, _Mapping]] = ..., error: _Optional[_Union[ItemError, _Mapping]] = ...) -> None: ...

class ListOptOutsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "sender", "recipient", "channel_family")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FAMILY_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    sender: str
    recipient: str
    channel_family: _conversation_pb2.ChannelFamily
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., sender: _Optional[str] = ..., recipient: _Optional[str] = ..., channel_family: _Optional[_Union[_conversation_pb2.ChannelFamily, str]] = ...) -> None: ...

class ListOptOutsResponse(_message.Message):
    __slots__ = ("opt_outs", "next_page_token")
    OPT_OUTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    opt_outs: _containers.RepeatedCompositeFieldContainer[_consent_pb2.OptOut]
    next_page_token: str
    def __init__(self, opt_outs: _Optional[_Iterable[_Union[_consent_pb2.OptOut, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class AddOptOutRequest(_message.Message):
    __slots__ = ("sender", "recipient", "reason")
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    sender: str
    recipient: str
    reason: str
    def __init__(self, sender: _Optional[str] = ..., recipient: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class AddOptOutResponse(_message.Message):
    __slots__ = ("opt_out", "created")
    OPT_OUT_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    opt_out: _consent_pb2.OptOut
    created: bool
    def __init__(self, opt_out: _Optional[_Union[_consent_pb2.OptOut, _Mapping]] = ..., created: _Optional[bool] = ...) -> None: ...

class RemoveOptOutRequest(_message.Message):
    __slots__ = ("sender", "recipient", "reason")
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    sender: str
    recipient: str
    reason: str
    def __init__(self, sender: _Optional[str] = ..., recipient: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class RemoveOptOutResponse(_message.Message):
    __slots__ = ("removed",)
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    removed: bool
    def __init__(self, removed: _Optional[bool] = ...) -> None: ...

class ListConsentEventsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "sender", "recipient", "change")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    sender: str
    recipient: str
    change: _consent_pb2.ConsentChange
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., sender: _Optional[str] = ..., recipient: _Optional[str] = ..., change: _Optional[_Union[_consent_pb2.ConsentChange, str]] = ...) -> None: ...

class ListConsentEventsResponse(_message.Message):
    __slots__ = ("events", "next_page_token")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[_consent_pb2.ConsentEvent]
    next_page_token: str
    def __init__(self, events: _Optional[_Iterable[_Union[_consent_pb2.ConsentEvent, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
