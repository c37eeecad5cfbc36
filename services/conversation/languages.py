"""What is known of languages: the SQL that keeps it on messages, conversations and tenants.

The surer guess wins, and of two that are equally sure the one from the later message. That is an order, so
it does not matter in which order guesses come, how often, or through how many processes. Each statement
stands alone: a lock on a conversation, which intake needs too, is never held while this process waits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from services.conversation.language import Guess
from services.kit.ids import new_id
from services.kit.keyring import ContentError
from services.kit.logs import get_logger
from services.ledger.arrays import plain_array, text_array
from services.ledger.database import HotConnection
from services.ledger.sealing import Content, open_content

_log = get_logger(__name__)

_READ = """
SELECT id::text, sealed_by, subject, CASE WHEN sealed_by IS NULL THEN left(body, 1000) ELSE body END
FROM messages
WHERE id = ANY(%s::uuid[]) AND direction = 'inbound' AND language_confidence IS NULL
"""

# What nobody has looked at, from an id on: the key begins with the time.
_READ_LEFT = """
SELECT id::text, direction = 'inbound' AND language_confidence IS NULL FROM messages
WHERE id > %s::uuid ORDER BY id LIMIT %s
"""

_NOTE = """
WITH guess AS (
  SELECT * FROM unnest(%(id)s::uuid[], %(language)s::text[], %(confidence)s::float8[], %(event_id)s::uuid[])
    AS t(id, language, confidence, event_id)
), marked AS (
  UPDATE messages m SET language = g.language, language_confidence = g.confidence
  FROM guess g WHERE m.id = g.id AND m.language_confidence IS NULL
  RETURNING m.id, m.conversation_id, m.message_time, g.language, g.confidence, g.event_id
), best AS (
  SELECT DISTINCT ON (conversation_id) * FROM marked WHERE language IS NOT NULL
  ORDER BY conversation_id, confidence DESC, message_time DESC
), held AS (
  SELECT c.id, c.language, c.language_confidence, c.language_time FROM conversations c
  WHERE c.id IN (SELECT conversation_id FROM best) ORDER BY c.id FOR NO KEY UPDATE
), changed AS (
  UPDATE conversations c
  SET language = b.language, language_confidence = b.confidence, language_time = b.message_time
  FROM held h JOIN best b ON b.conversation_id = h.id
  WHERE c.id = h.id AND (h.language_confidence IS NULL
    OR (b.confidence, b.message_time) > (h.language_confidence, h.language_time))
  RETURNING c.id, h.language AS old, b.language AS new, b.confidence, b.id AS message_id, b.event_id
), logged AS (
  INSERT INTO conversation_events (
    id, conversation_id, type, create_time, old_value, new_value, confidence, source, message_id
  )
  SELECT event_id, id, 'language_changed', now(), old, new, confidence, 'message', message_id
  FROM changed WHERE old IS DISTINCT FROM new
)
SELECT id::text, old, new, confidence, 'message' FROM changed WHERE old IS DISTINCT FROM new
"""

# From what tenants wrote in any of their conversations to the tenant. A new language is to be written into
# the register, unless it is there already. What people change there themselves is not written over.
_RAISE = """
WITH best AS (
  SELECT DISTINCT ON (tenant_id) tenant_id, language, language_confidence, language_time FROM conversations
  WHERE tenant_id = ANY(%(tenant_id)s::text[]) AND language IS NOT NULL
  ORDER BY tenant_id, language_confidence DESC, language_time DESC
)
UPDATE tenants t SET language = b.language, language_confidence = b.language_confidence,
  language_time = b.language_time,
  push_time = CASE WHEN b.language IS NOT DISTINCT FROM t.language THEN t.push_time
    WHEN b.language IS NOT DISTINCT FROM t.preference THEN NULL ELSE now() END,
  push_count = CASE WHEN b.language IS DISTINCT FROM t.language THEN 0 ELSE t.push_count END
FROM best b WHERE t.id = b.tenant_id AND (t.language_confidence IS NULL
  OR (b.language_confidence, b.language_time) > (t.language_confidence, t.language_time))
"""

# And from the tenant to all of their conversations.
_SPREAD = """
WITH held AS (
  SELECT c.id, c.tenant_id, c.language FROM conversations c JOIN tenants t ON t.id = c.tenant_id
  WHERE c.tenant_id = ANY(%(tenant_id)s::text[]) AND t.language IS NOT NULL
    AND (c.language_confidence IS NULL
      OR (t.language_confidence, t.language_time) > (c.language_confidence, c.language_time))
  ORDER BY c.id FOR NO KEY UPDATE OF c
), changed AS (
  UPDATE conversations c SET language = t.language, language_confidence = t.language_confidence,
    language_time = t.language_time
  FROM held h JOIN tenants t ON t.id = h.tenant_id
  WHERE c.id = h.id AND (c.language_confidence IS NULL
    OR (t.language_confidence, t.language_time) > (c.language_confidence, c.language_time))
  RETURNING c.id, h.language AS old, t.language AS new, t.language_confidence AS confidence
), logged AS (
  INSERT INTO conversation_events (
    id, conversation_id, type, create_time, old_value, new_value, confidence, source
  )
  SELECT gen_random_uuid(), id, 'language_changed', now(), old, new, confidence, 'tenant'
  FROM changed WHERE old IS DISTINCT FROM new
)
SELECT id::text, old, new, confidence, 'tenant' FROM changed WHERE old IS DISTINCT FROM new
"""

_TENANTS_OF = """
SELECT DISTINCT c.tenant_id FROM messages m JOIN conversations c ON c.id = m.conversation_id
WHERE m.id = ANY(%s::uuid[]) AND c.tenant_id IS NOT NULL
"""


class LanguageChange(NamedTuple):
    """One change of a conversation's language, as conversation_events has it."""

    conversation_id: str
    old: str | None
    new: str
    confidence: float
    source: str


@dataclass(frozen=True, slots=True)
class Unread:
    """Messages that nobody has looked at, and the id after which to go on; None at the end."""

    message_ids: list[str]
    last_id: str | None


async def read_texts(connection: HotConnection, message_ids: Sequence[str]) -> list[tuple[str, str]]:
    """Return id and text of those messages that are inbound and whose language nobody has looked at.

    Those that cannot be opened are left out, for whoever can.
    """
    cursor = await connection.execute(_READ, (plain_array(message_ids),))
    texts: list[tuple[str, str]] = []
    for message_id, sealed_by, subject, body in await cursor.fetchall():
        content = Content(subject, body)
        if sealed_by is not None:
            try:
                content = open_content(connection.keyring, message_id, sealed_by, subject, body, None)
            except ContentError as error:
                _log.error("language_not_read", message_id=message_id, reason=error.reason)
                continue
        texts.append((message_id, (content.body or content.subject or "")[:1000]))
    return texts


async def read_left(connection: HotConnection, after: str, limit: int) -> Unread:
    """Return what nobody has looked at among the `limit` messages after an id."""
    cursor = await connection.execute(_READ_LEFT, (after, limit))
    rows = await cursor.fetchall()
    return Unread([row[0] for row in rows if row[1]], rows[-1][0] if len(rows) == limit else None)


async def note_guesses(
    connection: HotConnection, guesses: Sequence[tuple[str, Guess]]
) -> list[LanguageChange]:
    """Keep what was guessed of messages, each once, and what follows for their conversations."""
    cursor = await connection.execute(
        _NOTE,
        {
            "id": plain_array([message_id for message_id, _ in guesses]),
            "language": text_array([guess.language for _, guess in guesses]),
            "confidence": plain_array([guess.confidence for _, guess in guesses]),
            "event_id": plain_array([new_id() for _ in guesses]),
        },
    )
    return [LanguageChange._make(row) for row in await cursor.fetchall()]


async def share_with_tenants(connection: HotConnection, tenant_ids: Sequence[str]) -> list[LanguageChange]:
    """Take the language of each tenant from all their conversations, and to all of them."""
    parameters = {"tenant_id": text_array(tenant_ids)}
    await connection.execute(_RAISE, parameters)
    cursor = await connection.execute(_SPREAD, parameters)
    return [LanguageChange._make(row) for row in await cursor.fetchall()]


async def tenants_of_messages(connection: HotConnection, message_ids: Sequence[str]) -> list[str]:
    """Return the tenants whose conversations some messages belong to."""
    cursor = await connection.execute(_TENANTS_OF, (plain_array(message_ids),))
    return [row[0] for row in await cursor.fetchall()]
