"""Events as they are published: built from what a transaction returned, or again from the ledger."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy.ext.asyncio import AsyncConnection

from posthouse.v1 import event_pb2 as event_pb
from services.kit import enum_names
from services.ledger.arrays import plain_array
from services.ledger.database import HotConnection
from services.ledger.outbox import EVENT_SUBJECT, OutboxRow

# Most events of one batch: some 300 kB of the megabyte that the broker takes.
_BATCH_SIZE = 1000
# Tag of EventBatch.events: field 1, of a length.
_EVENTS_TAG = bytes([1 << 3 | 2])
_SEVEN_BITS = 0x7F

_SELECT = """
SELECT e.message_id::text, e.sequence, e.type, e.create_time, m.conversation_id::text, m.channel, m.direction,
  m.sender, m.recipient, e.provider, e.error_code, e.attempt_number
FROM message_events e JOIN messages m ON m.id = e.message_id
"""
_REBUILD = f"""{_SELECT}
WHERE e.message_id = ANY(%s::uuid[]) AND e.create_time = %s
ORDER BY e.message_id, e.sequence
"""
_LOAD = f"""{_SELECT}
JOIN unnest(%s::uuid[], %s::int[]) AS wanted (message_id, sequence)
  ON e.message_id = wanted.message_id AND e.sequence = wanted.sequence
"""

# State a message is in after an event of each type; other types leave it as it is.
_STATE_AFTER = {
    "accepted": "pending",
    "retrying": "pending",
    "replayed": "pending",
    "held": "unknown",
    "receipt": "",
}

# Every type of an event about a message.
EVENT_TYPES = frozenset(enum_names.STATE.words) - {"pending"} | frozenset(_STATE_AFTER)


@lru_cache(maxsize=64)
def make_timestamp(time: datetime) -> Timestamp:
    """Return the protobuf time of a datetime with a zone, to the microsecond.

    All events of a transaction have the same; callers share it and do not change it.
    """
    seconds, rest = divmod(round(time.timestamp() * 1_000_000), 1_000_000)
    return Timestamp(seconds=seconds, nanos=rest * 1000)


class EncodedEvent(NamedTuple):
    """An event as it travels: its type, and its protobuf."""

    type: str
    payload: bytes


def encode_event(
    *,
    message_id: str,
    sequence: int,
    type: str,  # noqa: A002 - the field's name
    create_time: datetime,
    conversation_id: str,
    channel: str,
    direction: str,
    sender: str,
    recipient: str,
    provider: str | None = None,
    error_code: str | None = None,
    attempt_number: int = 0,
) -> EncodedEvent:
    """Return one event; its id is the same each time it is built."""
    shared = _shared_fields(type, create_time, channel, direction, provider, error_code, attempt_number)
    # Encodings one after the other are the encoding of both together.
    return EncodedEvent(
        type, shared + _own_fields(f"{message_id}.{sequence}", message_id, conversation_id, sender, recipient)
    )


def _own_fields(event_id: str, message_id: str, conversation_id: str, sender: str, recipient: str) -> bytes:
    """Return the encoding of what each event has of its own.

    A short text is its field's tag (number << 3 | 2), its length and itself: written so, it takes a quarter
    of the time that a message does.
    """
    text = (
        f"\x0a{chr(len(event_id))}{event_id}"
        f"\x22{chr(len(message_id))}{message_id}"
        f"\x2a{chr(len(conversation_id))}{conversation_id}"
        f"\x4a{chr(len(sender))}{sender}"
        f"\x52{chr(len(recipient))}{recipient}"
    )
    # Lengths from 128 on take two bytes; written as one character, they are not ASCII either.
    if text.isascii():
        return text.encode()
    # An Event for each: one that is filled again and again keeps every text it ever had.
    return event_pb.Event(
        id=event_id,
        message_id=message_id,
        conversation_id=conversation_id,
        sender=sender,
        recipient=recipient,
    ).SerializeToString()


@lru_cache(maxsize=256)
def _shared_fields(
    type: str,  # noqa: A002 - the field's name
    create_time: datetime,
    channel: str,
    direction: str,
    provider: str | None,
    error_code: str | None,
    attempt_number: int,
) -> bytes:
    """Return the encoding of what most events of a transaction have in common."""
    return event_pb.Event(
        type=type,
        create_time=make_timestamp(create_time),
        channel=enum_names.CHANNEL.number(channel),
        direction=enum_names.DIRECTION.number(direction),
        state=enum_names.STATE.number(_STATE_AFTER.get(type, type)),
        provider=provider or "",
        error_code=error_code or "",
        attempt_number=attempt_number,
    ).SerializeToString()


class OutboundFacts(Protocol):
    """What the events of an outbound message tell of it; the transactions return it with their rows."""

    @property
    def conversation_id(self) -> str:
        """The conversation it is part of."""

    @property
    def channel(self) -> str:
        """The channel it goes out on."""

    @property
    def sender(self) -> str:
        """The canonical address it comes from."""

    @property
    def recipient(self) -> str:
        """The canonical address it goes to."""


def outbound_event(
    message_id: str,
    message: OutboundFacts,
    *,
    sequence: int,
    type: str,  # noqa: A002 - the field's name
    create_time: datetime,
    provider: str | None = None,
    error_code: str | None = None,
    attempt_number: int = 0,
) -> EncodedEvent:
    """Return one event of an outbound message."""
    shared = _shared_fields(
        type, create_time, message.channel, "outbound", provider, error_code, attempt_number
    )
    own = _own_fields(
        f"{message_id}.{sequence}", message_id, message.conversation_id, message.sender, message.recipient
    )
    return EncodedEvent(type, shared + own)


async def rebuild(connection: HotConnection, row: OutboxRow) -> list[EncodedEvent]:
    """Return the events an outbox row stands for, from the ledger."""
    cursor = await connection.execute(_REBUILD, (plain_array(row.message_ids), row.create_time))
    return [_encode_row(found) for found in await cursor.fetchall()]


async def load_events(
    connection: AsyncConnection, wanted: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], event_pb.Event]:
    """Return those of the events, named by message id and sequence, that the ledger has."""
    ids, sequences = [each[0] for each in wanted], [each[1] for each in wanted]
    rows = await connection.exec_driver_sql(_LOAD, (ids, sequences))
    events = [event_pb.Event.FromString(_encode_row(tuple(row)).payload) for row in rows]
    return {(event.message_id, sequence_of(event)): event for event in events}


def sequence_of(event: event_pb.Event) -> int:
    """Return the number of an event among those of its message, from 1; 0 when it is about no message."""
    message_id, _, number = event.id.rpartition(".")
    return int(number) if message_id and message_id == event.message_id and number.isdecimal() else 0


def _encode_row(found: Sequence[Any]) -> EncodedEvent:
    return encode_event(
        message_id=found[0],
        sequence=found[1],
        type=found[2],
        create_time=found[3],
        conversation_id=found[4],
        channel=found[5],
        direction=found[6],
        sender=found[7],
        recipient=found[8],
        provider=found[9],
        error_code=found[10],
        attempt_number=found[11],
    )


def group_by_subject(events: Iterable[EncodedEvent]) -> list[tuple[str, bytes]]:
    """Return the subject and payload of each type's batches, in order of first appearance."""
    groups: dict[str, list[bytes]] = {}
    for kind, payload in events:
        groups.setdefault(kind, []).append(payload)
    return [
        (f"{EVENT_SUBJECT}.{kind}", _encode_batch(batch[start : start + _BATCH_SIZE]))
        for kind, batch in groups.items()
        for start in range(0, len(batch), _BATCH_SIZE)
    ]


def _encode_batch(payloads: Sequence[bytes]) -> bytes:
    """Return the encoding of an EventBatch."""
    parts: list[bytes] = []
    for payload in payloads:
        parts += (_EVENTS_TAG, _varint(len(payload)), payload)
    return b"".join(parts)


@lru_cache(maxsize=1024)
def _varint(number: int) -> bytes:
    """Return a length as protobuf writes it: seven bits a byte, the lowest first."""
    rest = bytearray()
    while number > _SEVEN_BITS:
        rest.append(number & _SEVEN_BITS | 0x80)
        number >>= 7
    return bytes([*rest, number])


def envelope_payload(outbox_id: str, message_ids: Sequence[str]) -> bytes:
    """Return the payload of a DISPATCH subject."""
    return event_pb.DispatchEnvelope(outbox_id=outbox_id, message_ids=message_ids).SerializeToString()
