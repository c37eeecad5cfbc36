"""Rows of the ledger as messages of the contract: words become enum numbers, nulls become empty."""

import base64
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from posthouse.v1 import dispatch_pb2, message_pb2
from services.kit.enum_names import CHANNEL, DIRECTION, ENCODING, OUTCOME, PRIORITY, STATE
from services.kit.keyring import ContentError, Keyring
from services.ledger.sealing import Content, open_content
from services.ledger.tables import dispatch_attempts, message_events, messages

# Enum numbers are plain integers here, which the stubs' constructors do not take: hence `Any`.
_Fields = dict[str, Any]

MESSAGE_COLUMNS: tuple[sa.ColumnElement[Any], ...] = (
    messages.c.id,
    messages.c.conversation_id,
    messages.c.channel,
    messages.c.direction,
    messages.c.state,
    messages.c.sender,
    messages.c.recipient,
    messages.c.sender_original,
    messages.c.recipient_original,
    messages.c.subject,
    messages.c.body,
    messages.c.html,
    messages.c.attachments,
    messages.c.metadata,
    messages.c.priority,
    messages.c.segment_count,
    messages.c.segment_encoding,
    messages.c.create_time,
    messages.c.update_time,
    messages.c.message_time,
    messages.c.send_time,
    messages.c.expire_time,
    messages.c.next_attempt_time,
    messages.c.attempt_count,
    messages.c.provider,
    messages.c.provider_message_id,
    messages.c.error_code,
    messages.c.error_message,
    messages.c.transactional,
    messages.c.language,
    messages.c.language_confidence,
    messages.c.sealed_by,
    messages.c.reply_to,
)

EVENT_COLUMNS: tuple[sa.ColumnElement[Any], ...] = (
    message_events.c.message_id,
    message_events.c.sequence,
    message_events.c.type,
    message_events.c.create_time,
    message_events.c.provider_time,
    message_events.c.attempt_number,
    message_events.c.provider,
    message_events.c.error_code,
    message_events.c.detail,
)

ATTEMPT_COLUMNS: tuple[sa.ColumnElement[Any], ...] = (
    dispatch_attempts.c.message_id,
    dispatch_attempts.c.number,
    dispatch_attempts.c.provider,
    dispatch_attempts.c.outcome,
    dispatch_attempts.c.start_time,
    dispatch_attempts.c.end_time,
    dispatch_attempts.c.provider_message_id,
    dispatch_attempts.c.error_code,
    dispatch_attempts.c.error_message,
    dispatch_attempts.c.route_reason,
)


def message_from_row(row: sa.Row[Any], keyring: Keyring) -> message_pb2.Message:
    """Return the message of a row that has MESSAGE_COLUMNS.

    One whose content cannot be opened is there without it: `content_error` says why.
    """
    content, content_error = _content(row, keyring)
    fields: _Fields = {
        "id": row.id,
        "conversation_id": row.conversation_id,
        "channel": CHANNEL.number(row.channel),
        "direction": DIRECTION.number(row.direction),
        "state": STATE.number(row.state),
        "sender": row.sender,
        "recipient": row.recipient,
        "sender_original": row.sender_original or row.sender,
        "recipient_original": row.recipient_original or row.recipient,
        "subject": content.subject,
        "body": content.body,
        "html": content.html,
        "attachments": [attachment_from_json(item) for item in content.attachments or ()],
        "metadata": content.metadata,
        "content_error": content_error,
        "priority": PRIORITY.number(row.priority),
        "segment_count": row.segment_count,
        "segment_encoding": ENCODING.number(row.segment_encoding),
        "create_time": row.create_time,
        "update_time": row.update_time,
        "message_time": row.message_time,
        "send_time": row.send_time,
        "expire_time": row.expire_time,
        "next_attempt_time": row.next_attempt_time,
        "attempt_count": row.attempt_count,
        "provider": row.provider,
        "provider_message_id": row.provider_message_id,
        "error_code": row.error_code,
        "error_message": row.error_message,
        "transactional": row.transactional,
        "language": row.language,
        "language_confidence": row.language_confidence,
        "reply_to": row.reply_to,
    }
    return message_pb2.Message(**fields)


def open_row(row: sa.Row[Any], keyring: Keyring) -> Content:
    """Return the content of a row that has MESSAGE_COLUMNS; raises KeyMissingError or ContentDamagedError."""
    if row.sealed_by is None:
        return Content(row.subject, row.body, row.html, row.attachments, row.metadata)
    return open_content(
        keyring, row.id, row.sealed_by, row.subject, row.body, row.html, row.attachments, row.metadata
    )


def _content(row: sa.Row[Any], keyring: Keyring) -> tuple[Content, str]:
    try:
        return open_row(row, keyring), ""
    except ContentError as error:
        return Content(), str(error)


def attachment_from_json(item: Mapping[str, Any]) -> message_pb2.Attachment:
    """Return an attachment as the `attachments` column keeps it: its content is in base64."""
    return message_pb2.Attachment(
        url=item.get("url"),
        content_type=item.get("content_type"),
        filename=item.get("filename"),
        content=base64.b64decode(item.get("content") or ""),
    )


def event_from_row(row: sa.Row[Any]) -> message_pb2.MessageEvent:
    """Return the event of a row that has EVENT_COLUMNS."""
    return message_pb2.MessageEvent(
        message_id=row.message_id,
        sequence=row.sequence,
        type=row.type,
        create_time=row.create_time,
        provider_time=row.provider_time,
        attempt_number=row.attempt_number,
        provider=row.provider,
        error_code=row.error_code,
        detail=row.detail,
    )


def attempt_from_row(row: sa.Row[Any]) -> dispatch_pb2.DispatchAttempt:
    """Return the ended attempt of a row that has ATTEMPT_COLUMNS."""
    fields: _Fields = {
        "message_id": row.message_id,
        "number": row.number,
        "provider": row.provider,
        "outcome": OUTCOME.number(row.outcome),
        "start_time": row.start_time,
        "end_time": row.end_time,
        "provider_message_id": row.provider_message_id,
        "error_code": row.error_code,
        "error_message": row.error_message,
        "route_reason": row.route_reason,
    }
    return dispatch_pb2.DispatchAttempt(**fields)
