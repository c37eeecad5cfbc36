"""Finds the conversation an e-mail continues, by the ids of the messages it answers."""

from collections.abc import Sequence
from typing import NamedTuple

from services.ledger.arrays import plain_array, text_array
from services.ledger.database import HotConnection

# By our own id, or by the one the provider has put in its place.
_FIND = """
SELECT r.reference, m.conversation_id::text, c.participant_a, c.participant_b
FROM unnest(%(reference)s::text[], %(message_id)s::uuid[]) AS r(reference, message_id)
CROSS JOIN LATERAL (
  SELECT r.message_id AS id WHERE r.message_id IS NOT NULL
  UNION ALL
  SELECT a.message_id FROM dispatch_attempts a WHERE a.provider_message_id = r.reference
) AS p
JOIN messages m ON m.id = p.id AND m.channel = 'email'
JOIN conversations c ON c.id = m.conversation_id
"""


class Parent(NamedTuple):
    """The conversation of an answered message."""

    conversation_id: str
    participant_a: str
    participant_b: str


async def find_parents(
    connection: HotConnection, references: Sequence[tuple[str, str | None]]
) -> dict[str, Parent]:
    """Return the conversations that references name: each is a text, and the message id it may be of ours."""
    cursor = await connection.execute(
        _FIND,
        {
            "reference": text_array([text for text, _ in references]),
            "message_id": plain_array([message_id for _, message_id in references]),
        },
    )
    return {row[0]: Parent(*row[1:]) for row in await cursor.fetchall()}
