"""Renders protobuf as JSON values by hand: `json_format` costs several times as much.

Words are in lower case, times are RFC 3339 in UTC, bytes are base64. What is absent is null: times that
are not set, and texts and numbers that are empty unless there is something to say.
"""

import base64
from collections.abc import Iterable
from typing import Any

import orjson
from google.protobuf.message import Message as Protobuf
from starlette.responses import Response

from gateway import problems
from posthouse.v1 import conversation_pb2, dispatch_pb2, message_pb2
from posthouse.v1 import conversation_service_pb2 as conversation_pb
from posthouse.v1 import message_service_pb2 as pb
from services.kit.enum_names import BREAKER, CHANNEL, DIRECTION, ENCODING, FAMILY, OUTCOME, PRIORITY, STATE
from services.kit.event_json import time_text
from services.kit.status import from_item_error

Json = dict[str, Any]


def answer(data: Json, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return the HTTP answer of a JSON value."""
    return Response(orjson.dumps(data), status, headers, "application/json")


def page(name: str, items: Iterable[Json], next_page_token: str) -> Response:
    """Return the HTTP answer of one page of a list; the token is null on the last."""
    return answer({name: list(items), "next_page_token": next_page_token or None})


def when(message: Protobuf, field: str) -> str | None:
    """Return a time as text, None where it is empty."""
    return time_text(getattr(message, field)) if message.HasField(field) else None


def accepted(message: pb.AcceptedMessage) -> Json:
    """Return the JSON of an accepted message."""
    return {
        "id": message.id,
        "conversation_id": message.conversation_id,
        "status": STATE.word(message.state),
        "type": CHANNEL.word(message.channel),
        "from": message.sender,
        "to": message.recipient,
        "segments": message.segment_count or None,
        "encoding": ENCODING.word(message.segment_encoding) or None,
        "created_at": when(message, "create_time"),
        "send_at": when(message, "send_time"),
    }


def attachment(item: message_pb2.Attachment) -> Json:
    """Return the JSON of an attachment."""
    return {
        "url": item.url or None,
        "content_type": item.content_type or None,
        "filename": item.filename or None,
        "content": base64.b64encode(item.content).decode("ascii") if item.content else None,
    }


def message(item: message_pb2.Message) -> Json:
    """Return the JSON of a message."""
    return {
        "id": item.id,
        "conversation_id": item.conversation_id,
        "type": CHANNEL.word(item.channel),
        "direction": DIRECTION.word(item.direction),
        "status": STATE.word(item.state),
        "from": item.sender,
        "to": item.recipient,
        "from_original": item.sender_original or None,
        "to_original": item.recipient_original or None,
        "subject": item.subject or None,
        "body": item.body,
        "html": item.html or None,
        "attachments": [attachment(each) for each in item.attachments],
        "metadata": dict(item.metadata),
        "priority": PRIORITY.word(item.priority) or "normal",
        "segments": item.segment_count or None,
        "encoding": ENCODING.word(item.segment_encoding) or None,
        "created_at": when(item, "create_time"),
        "updated_at": when(item, "update_time"),
        "message_at": when(item, "message_time"),
        "send_at": when(item, "send_time"),
        "expires_at": when(item, "expire_time"),
        "next_attempt_at": when(item, "next_attempt_time"),
        "attempt_count": item.attempt_count,
        "provider": item.provider or None,
        "provider_message_id": item.provider_message_id or None,
        "error_code": item.error_code or None,
        "error_message": item.error_message or None,
        "transactional": item.transactional,
        "language": item.language or None,
        "language_confidence": item.language_confidence if item.language else None,
        "content_error": item.content_error or None,
        "reply_to": item.reply_to or None,
    }


def message_event(event: message_pb2.MessageEvent) -> Json:
    """Return the JSON of one entry of a message's history."""
    return {
        "message_id": event.message_id,
        "sequence": event.sequence,
        "type": event.type,
        "created_at": when(event, "create_time"),
        "provider_at": when(event, "provider_time"),
        "attempt_number": event.attempt_number or None,
        "provider": event.provider or None,
        "error_code": event.error_code or None,
        "detail": event.detail or None,
    }


def preview(response: pb.PreviewMessageResponse, instance: str, request_id: str) -> Json:
    """Return the JSON of what a send would do."""
    verdict = response.rate_limit
    return {
        "acceptable": response.acceptable,
        "refusals": [
            problems.from_error(from_item_error(refusal)).members(instance, request_id)
            for refusal in response.refusals
        ],
        "type": CHANNEL.word(response.channel) or None,
        "from": response.sender or None,
        "to": response.recipient or None,
        "conversation_id": response.conversation_id or None,
        "conversation_exists": response.conversation_exists,
        "segments": response.segment_count or None,
        "encoding": ENCODING.word(response.segment_encoding) or None,
        "characters": response.character_count,
        "ucs2_characters": list(response.ucs2_characters),
        "route": list(response.route),
        "sender_pool": response.sender_pool or None,
        "sender_kept": response.sender_kept,
        "rate_limit": {
            "allowed": verdict.allowed,
            "limit": verdict.limit,
            "remaining": verdict.remaining,
            "reset_seconds": verdict.reset_seconds,
        }
        if response.HasField("rate_limit")
        else None,
    }


def conversation(item: conversation_pb2.Conversation) -> Json:
    """Return the JSON of a conversation."""
    return {
        "id": item.id,
        "channel_family": FAMILY.word(item.channel_family),
        "participants": list(item.participants),
        "created_at": when(item, "create_time"),
        "last_message_at": when(item, "last_message_time"),
        "last_message_id": item.last_message_id or None,
        "message_count": item.message_count,
        "unread_count": item.unread_count,
        "archived_at": when(item, "archive_time"),
        "workflow_type": item.workflow_type or None,
        "workflow_id": item.workflow_id or None,
        "tenant_id": item.tenant_id or None,
        "language": item.language or None,
        "language_confidence": item.language_confidence if item.language else None,
        "metadata": dict(item.metadata),
    }


def conversation_change(item: conversation_pb2.ConversationChange) -> Json:
    """Return the JSON of a change of a conversation's language or tenant."""
    return {
        "id": item.id,
        "conversation_id": item.conversation_id,
        "type": item.type,
        "created_at": when(item, "create_time"),
        "old_value": item.old_value or None,
        "new_value": item.new_value or None,
        "confidence": item.confidence or None,
        "source": item.source,
        "message_id": item.message_id or None,
    }


def phone_workflow(phone_number: str, item: conversation_pb2.Conversation) -> Json:
    """Return the JSON of a conversation as the SMS foundation names its parts."""
    return {
        "phone_number": phone_number,
        "conversation_id": item.id,
        "tenant_id": item.tenant_id or None,
        "workflow_type": item.workflow_type or None,
        "workflow_id": item.workflow_id or None,
        "language": item.language or None,
        "last_message_at": when(item, "last_message_time"),
    }


def phone_message(item: message_pb2.Message) -> Json:
    """Return the JSON of a text message as the SMS foundation names its parts."""
    return {
        "id": item.id,
        "conversation_id": item.conversation_id,
        "direction": DIRECTION.word(item.direction),
        "content": item.body,
        "twilio_sid": item.provider_message_id or None,
        "delivery_status": STATE.word(item.state),
        "created_at": when(item, "create_time"),
        "from": item.sender,
        "to": item.recipient,
        "media_urls": [attachment.url for attachment in item.attachments if attachment.url],
        "language": item.language or None,
    }


def stats(response: conversation_pb.GetConversationStatsResponse) -> Json:
    """Return the JSON of counts."""
    return {
        "messages_by_direction": dict(response.messages_by_direction),
        "messages_by_status": dict(response.messages_by_state),
        "messages_by_type": dict(response.messages_by_channel),
        "active_conversation_count": response.active_conversation_count,
        "delivery_rate": response.delivery_rate,
        "mean_response_seconds": response.mean_response_seconds,
        "median_response_seconds": response.median_response_seconds,
        "mean_answer_seconds": response.mean_answer_seconds,
        "median_answer_seconds": response.median_answer_seconds,
    }


def attempt(item: dispatch_pb2.DispatchAttempt) -> Json:
    """Return the JSON of a dispatch attempt; its outcome is null while it is under way."""
    return {
        "message_id": item.message_id,
        "number": item.number,
        "provider": item.provider,
        "outcome": OUTCOME.word(item.outcome) or None,
        "started_at": when(item, "start_time"),
        "ended_at": when(item, "end_time"),
        "provider_message_id": item.provider_message_id or None,
        "error_code": item.error_code or None,
        "error_message": item.error_message or None,
        "route_reason": item.route_reason or None,
    }


def provider(item: dispatch_pb2.Provider) -> Json:
    """Return the JSON of a provider; its position is null when it is not routed."""
    return {
        "name": item.name,
        "type": CHANNEL.word(item.channel),
        "route_position": item.route_position or None,
        "breaker": BREAKER.word(item.breaker_state) or None,
        "healthy": item.healthy,
    }


def dead_letter(item: dispatch_pb2.DeadLetter) -> Json:
    """Return the JSON of a dead letter."""
    return {
        "message_id": item.message_id,
        "type": CHANNEL.word(item.channel),
        "provider": item.provider or None,
        "reason": item.reason,
        "error_code": item.error_code or None,
        "error_message": item.error_message or None,
        "attempt_count": item.attempt_count,
        "created_at": when(item, "create_time"),
        "replayed_at": when(item, "replay_time"),
    }


def simulator_profile(item: dispatch_pb2.SimulatorProfile) -> Json:
    """Return the JSON of a simulator profile, in the shape it can be set with."""
    return {
        "type": CHANNEL.word(item.channel) or None,
        "rate_limited_rate": item.rate_limited_rate,
        "server_error_rate": item.server_error_rate,
        "timeout_rate": item.timeout_rate,
        "lost_rate": item.lost_rate,
        "rejected_rate": item.rejected_rate,
        "latency_ms": item.latency_ms,
        "callback_delay_ms": item.callback_delay_ms,
        "callback_duplicate_rate": item.callback_duplicate_rate,
        "callback_loss_rate": item.callback_loss_rate,
        "callback_reorder_rate": item.callback_reorder_rate,
        "undelivered_rate": item.undelivered_rate,
        "reply_rate": item.reply_rate,
        "reply_delay_ms": item.reply_delay_ms,
        "reply_text": item.reply_text or None,
        "seed": item.seed,
    }
