"""Builds the services' requests from what callers wrote."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TypeVar

from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from gateway import problems, schemas
from posthouse.v1 import dispatch_pb2, dispatch_service_pb2, message_pb2
from posthouse.v1 import message_service_pb2 as pb
from services.kit.enum_names import CHANNEL, PRIORITY
from services.kit.errors import InvalidRequestError

_Shape = TypeVar("_Shape", bound=BaseModel)


def check_content_type(content_type: bytes | None) -> None:
    """Refuse a body that says it is something else than JSON; one that says nothing is taken as JSON."""
    if content_type is None or content_type.startswith(b"application/json"):
        return
    kind = content_type.partition(b";")[0].strip().lower()
    if kind != b"application/json" and not (kind.startswith(b"application/") and kind.endswith(b"+json")):
        raise HTTPException(415, "must be application/json")


def idempotency_key(given: str | None, headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the key of an Idempotency-Key header, "" without one; an empty one, or two, are refused."""
    if given is None:
        return ""
    if sum(name == b"idempotency-key" for name, _ in headers) > 1:
        raise InvalidRequestError.field("Idempotency-Key", "must be given once")
    key = given.strip()
    if not key:
        raise InvalidRequestError.field("Idempotency-Key", "must not be empty")
    return key


def timestamp(value: datetime | None) -> Timestamp | None:
    """Return the protobuf time of a time."""
    if value is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(value)
    return stamp


def send_request(body: schemas.SendRequest, key: str) -> pb.SendMessageRequest:
    """Return the request of one send."""
    request = pb.SendMessageRequest(
        sender=body.sender or "",
        sender_pool=body.sender_pool or "",
        recipient=body.recipient,
        channel=CHANNEL.number(body.type),
        body=body.body or "",
        request_id=key,
        reply_to=body.reply_to or "",
    )
    # What most messages lack costs nothing.
    if body.subject:
        request.subject = body.subject
    if body.html:
        request.html = body.html
    if body.attachments:
        request.attachments.extend(_attachments(body.attachments))
    if body.metadata:
        request.metadata.update(body.metadata)
    if body.send_at is not None:
        request.send_time.FromDatetime(body.send_at)
    if body.expires_at is not None:
        request.expire_time.FromDatetime(body.expires_at)
    if body.priority is not None:
        request.priority = PRIORITY.number(body.priority)
    if body.fail_fast:
        request.fail_fast = True
    if body.transactional:
        request.transactional = True
    return request


def inbound_message(body: schemas.InboundMessage) -> pb.InboundMessage:
    """Return the inbound message that a system hands over."""
    return pb.InboundMessage(
        source=body.source,
        event_id=body.event_id,
        sender=body.sender,
        recipient=body.recipient,
        channel=CHANNEL.number(body.type),
        body=body.body or "",
        subject=body.subject or "",
        html=body.html or "",
        attachments=_attachments(body.attachments or ()),
        message_time=timestamp(body.message_at),
        metadata=body.metadata or {},
    )


def replay_request(body: schemas.ReplayRequest) -> dispatch_service_pb2.ReplayDeadLettersRequest:
    """Return the request to put dead letters back."""
    request = dispatch_service_pb2.ReplayDeadLettersRequest(message_ids=body.message_ids or ())
    if body.filter is not None:
        request.filter.CopyFrom(
            dispatch_service_pb2.DeadLetterFilter(
                channel=CHANNEL.number(body.filter.type),
                reason=body.filter.reason or "",
                provider=body.filter.provider or "",
                error_code=body.filter.error_code or "",
                since_time=timestamp(body.filter.since),
                until_time=timestamp(body.filter.until),
            )
        )
    return request


def simulator_profile(body: schemas.SimulatorProfile) -> dispatch_pb2.SimulatorProfile:
    """Return the profile to set."""
    fields = body.model_dump(exclude={"type", "reply_text"})
    return dispatch_pb2.SimulatorProfile(
        channel=CHANNEL.number(body.type),
        reply_text=body.reply_text or "",
        **fields,
    )


def check_items(
    items: Iterable[object], shape: type[_Shape]
) -> tuple[list[tuple[int, _Shape]], dict[int, problems.Problem]]:
    """Check items one by one; return the good ones and the problems of the others, by position."""
    good: list[tuple[int, _Shape]] = []
    bad: dict[int, problems.Problem] = {}
    for position, item in enumerate(items):
        try:
            good.append((position, shape.model_validate(item)))
        except ValidationError as error:
            bad[position] = problems.from_validation(
                error.errors(include_url=False, include_input=False), item=f"messages[{position}]"
            )
    return good, bad


def _attachments(attachments: Sequence[schemas.Attachment]) -> list[message_pb2.Attachment]:
    return [
        message_pb2.Attachment(
            url=attachment.url or "",
            content_type=attachment.content_type or "",
            filename=attachment.filename or "",
            content=attachment.content or b"",
        )
        for attachment in attachments
    ]
