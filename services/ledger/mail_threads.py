"""What an e-mail answers: the newest message of its contact in the conversation, by its Message-ID."""

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from services.kit.keyring import ContentError
from services.ledger.arrays import plain_array
from services.ledger.database import HotConnection
from services.ledger.sealing import open_metadata

# Messages of a conversation that are looked through for one of the contact's.
_DEPTH: Final = 50
# Earlier messages that are named; the eldest and the newest of a longer thread say enough.
_MOST_REFERENCES: Final = 10

_MESSAGE_ID: Final = re.compile(r"<[!-;=?-~]{1,250}>")

_THREADS = """
SELECT w.id::text, p.id::text, p.sealed_by, p.metadata, p.provider_message_id
FROM unnest(%(id)s::uuid[], %(conversation_id)s::uuid[]) AS w(id, conversation_id)
CROSS JOIN LATERAL (
  SELECT id, sealed_by, metadata, provider_message_id FROM (
    SELECT m.id, m.direction, m.sealed_by, m.metadata, m.provider_message_id FROM messages m
    WHERE m.conversation_id = w.conversation_id ORDER BY m.message_time DESC, m.id DESC LIMIT %(depth)s
  ) newest WHERE direction = 'inbound' LIMIT 1
) p
"""


class MailThread(NamedTuple):
    """The headers that place an answer: Message-IDs in angle brackets, `references` from the eldest on."""

    in_reply_to: str
    references: tuple[str, ...]


async def load_threads(connection: HotConnection, conversations: Mapping[str, str]) -> dict[str, MailThread]:
    """Return the threads of messages, given with their conversations; of those alone that answer one."""
    cursor = await connection.execute(
        _THREADS,
        {
            "id": plain_array(conversations),
            "conversation_id": plain_array(conversations.values()),
            "depth": _DEPTH,
        },
    )
    threads: dict[str, MailThread | None] = {}
    for message_id, answered_id, sealed_by, metadata, provider_message_id in await cursor.fetchall():
        labels = metadata or {}
        if sealed_by is not None:
            try:
                labels = open_metadata(connection.keyring, answered_id, sealed_by, metadata)
            except ContentError:
                # It goes out all the same, by the provider's own name of what it answers.
                labels = {}
        names = [labels.get("message_id_header", ""), provider_message_id or ""]
        threads[message_id] = thread_of(labels.get("references", ""), names)
    return {message_id: thread for message_id, thread in threads.items() if thread is not None}


def thread_of(references: str, names: Sequence[str]) -> MailThread | None:
    """Return the thread of an answer to a message (RFC 5322, 3.6.4); None when no name is a Message-ID."""
    parent = next((name.strip() for name in names if _MESSAGE_ID.fullmatch(name.strip())), None)
    if parent is None:
        return None
    chain = [*dict.fromkeys(one for one in _MESSAGE_ID.findall(references) if one != parent), parent]
    if len(chain) > _MOST_REFERENCES:
        chain = [chain[0], *chain[1 - _MOST_REFERENCES :]]
    return MailThread(parent, tuple(chain))
