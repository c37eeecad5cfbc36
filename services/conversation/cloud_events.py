"""Events as endpoints of customers get them: CloudEvents 1.0 in structured JSON."""

from typing import Final

import orjson

from posthouse.v1 import event_pb2 as event_pb
from services.kit.event_json import event_json, time_text

CONTENT_TYPE: Final = "application/cloudevents+json; charset=utf-8"
_TYPE: Final = "posthouse.message."


def webhook_id(message_id: str, sequence: int) -> str:
    """Return the webhook-id of an event, the same each time: signatures allow no dot in it."""
    return f"evt_{message_id.replace('-', '')}_{sequence}"


def cloud_event(event: event_pb.Event, source: str) -> bytes:
    """Return the body of a request; `source` is the address of this installation."""
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": event.id,
            "source": source,
            "type": _TYPE + event.type,
            "subject": event.message_id,
            "time": time_text(event.create_time),
            "datacontenttype": "application/json",
            "data": event_json(event),
        }
    )
