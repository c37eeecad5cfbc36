"""Events as JSON, for streams and for endpoints of customers alike."""

from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from posthouse.v1 import event_pb2
from services.kit.enum_names import CHANNEL, DIRECTION, STATE

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - naive on purpose: the offset is written by hand


def time_text(stamp: Timestamp) -> str:
    """Return a time as RFC 3339 in UTC with microseconds."""
    return _time_text(stamp.seconds, stamp.nanos)


@lru_cache(maxsize=64)
def _time_text(seconds: int, nanos: int) -> str:
    """Return the text of a time; what was committed together has the same."""
    moment = _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000)
    return moment.isoformat(timespec="microseconds") + "Z"


def event_json(item: event_pb2.Event) -> dict[str, Any]:
    """Return the JSON of an event; what it has not is null."""
    return {
        "id": item.id,
        "type": item.type,
        "created_at": time_text(item.create_time) if item.HasField("create_time") else None,
        "message_id": item.message_id or None,
        "conversation_id": item.conversation_id or None,
        "channel": CHANNEL.word(item.channel) or None,
        "direction": DIRECTION.word(item.direction) or None,
        "status": STATE.word(item.state) or None,
        "from": item.sender or None,
        "to": item.recipient or None,
        "provider": item.provider or None,
        "error_code": item.error_code or None,
        "attempt_number": item.attempt_number or None,
    }
