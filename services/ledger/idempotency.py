"""Idempotency keys: the answer that was given under a key, rebuilt from facts that never change."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy.ext.asyncio import AsyncConnection

from posthouse.v1 import message_service_pb2 as pb
from services.kit import enum_names
from services.kit.keyring import Keyring
from services.ledger.database import keyring_of
from services.ledger.drafts import Draft
from services.ledger.event_batches import make_timestamp
from services.ledger.tables import idempotency_keys, messages


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The answer first given under a key, and the hash of the request that got it, as it is stored.

    `message` is None when the message is erased: a key outlives it.
    """

    request_hash: bytes
    message: pb.AcceptedMessage | None
    keyring: Keyring

    def answers(self, request_hash: bytes) -> bool:
        """Tell whether the request of this hash is the one that got it; raises KeyMissingError."""
        return self.keyring.is_digest(self.request_hash, request_hash)


async def load_answers(
    connection: AsyncConnection, caller: str, request_ids: Sequence[str]
) -> dict[str, StoredAnswer]:
    """Return the stored answers of a caller's keys, by key; keys that are not known are left out."""
    rows = await connection.execute(
        sa.select(
            idempotency_keys.c.request_id,
            idempotency_keys.c.request_hash,
            messages.c.id,
            messages.c.conversation_id,
            messages.c.channel,
            messages.c.sender,
            messages.c.recipient,
            messages.c.segment_count,
            messages.c.segment_encoding,
            messages.c.create_time,
            messages.c.send_time,
        )
        .outerjoin(messages, messages.c.id == idempotency_keys.c.message_id)
        .where(idempotency_keys.c.caller == caller, idempotency_keys.c.request_id.in_(request_ids))
    )
    keyring = keyring_of(connection)
    return {
        row.request_id: StoredAnswer(
            bytes(row.request_hash),
            None if row.id is None else accepted_message(row.id, row, make_timestamp(row.create_time)),
            keyring,
        )
        for row in rows
    }


def accepted_message(
    message_id: str, facts: Draft | sa.Row[*tuple[Any, ...]], create_time: Timestamp
) -> pb.AcceptedMessage:
    """Return the answer that a message was accepted: from its draft at once, as later from its row."""
    accepted = pb.AcceptedMessage(
        id=message_id,
        conversation_id=facts.conversation_id,
        channel=enum_names.CHANNEL.number(facts.channel),
        state=enum_names.STATE.number("pending" if facts.send_time is None else "scheduled"),
        sender=facts.sender,
        recipient=facts.recipient,
        segment_count=facts.segment_count,
        segment_encoding=enum_names.ENCODING.number(facts.segment_encoding),
        create_time=create_time,
    )
    if facts.send_time is not None:
        accepted.send_time.CopyFrom(make_timestamp(facts.send_time))
    return accepted
