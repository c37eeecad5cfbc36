"""The SQL of contacts and tenants: whom to ask about, what the answer was, and what follows from it.

Each statement stands alone and may be repeated: a process that dies between two of them leaves a contact
whose lease ends, and whoever takes it next does the rest.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from services.kit.ids import new_id
from services.ledger.arrays import plain_array, storable, text_array
from services.ledger.database import HotConnection

# A contact who writes again is asked about again: at once if nobody knew the number, after a day if
# somebody did. While the register fails, the backoff stands.
_MEET = """
WITH met AS (
  SELECT DISTINCT ON (address) address, original, time FROM unnest(
    %(address)s::text[], %(original)s::text[], %(time)s::timestamptz[]
  ) AS t(address, original, time) ORDER BY address, time DESC
)
INSERT INTO contacts AS c (address, address_original, last_message_time, lookup_time, create_time)
SELECT address, nullif(original, address), time, now(), now() FROM met ORDER BY address
ON CONFLICT (address) DO UPDATE SET
  last_message_time = greatest(c.last_message_time, excluded.last_message_time),
  address_original = coalesce(c.address_original, excluded.address_original),
  lookup_time = CASE
    WHEN c.failure_count > 0 THEN c.lookup_time
    WHEN c.tenant_id IS NULL
      THEN least(c.lookup_time, greatest(now(), c.check_time + make_interval(secs => %(pause)s)))
    ELSE least(c.lookup_time, greatest(now(), c.check_time + make_interval(secs => %(refresh)s)))
  END
"""

# Only where the address is the contact's: one of our own may be a contact of another's.
_LINK = """
WITH near AS (
  SELECT c.id, k.address, k.tenant_id FROM contacts k JOIN conversations c ON c.participant_a = k.address
  WHERE k.address = ANY(%(address)s::text[]) AND k.tenant_id IS NOT NULL AND c.channel_family = 'sms'
    AND c.tenant_id IS DISTINCT FROM k.tenant_id
  UNION ALL
  SELECT c.id, k.address, k.tenant_id FROM contacts k JOIN conversations c ON c.participant_b = k.address
  WHERE k.address = ANY(%(address)s::text[]) AND k.tenant_id IS NOT NULL AND c.channel_family = 'sms'
    AND c.tenant_id IS DISTINCT FROM k.tenant_id
), theirs AS (
  SELECT DISTINCT ON (id) id, tenant_id FROM near n WHERE EXISTS (
    SELECT FROM messages m WHERE m.conversation_id = n.id
      AND n.address = CASE m.direction WHEN 'inbound' THEN m.sender ELSE m.recipient END
  ) ORDER BY id, address
), held AS (
  SELECT c.id, c.tenant_id AS old FROM conversations c WHERE c.id IN (SELECT id FROM theirs)
  ORDER BY c.id FOR NO KEY UPDATE
), linked AS (
  UPDATE conversations c SET tenant_id = t.tenant_id FROM held h JOIN theirs t ON t.id = h.id
  WHERE c.id = h.id AND h.old IS DISTINCT FROM t.tenant_id
  RETURNING c.id, h.old, t.tenant_id AS new
), logged AS (
  INSERT INTO conversation_events (id, conversation_id, type, create_time, old_value, new_value, source)
  SELECT gen_random_uuid(), id, 'tenant_linked', now(), old, new, 'monitor' FROM linked
)
SELECT id::text, old, new FROM linked
"""

_CLAIM = """
WITH due AS (
  SELECT address FROM contacts
  WHERE lookup_time <= now() AND (lease_time IS NULL OR lease_time <= now())
  ORDER BY lookup_time LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
UPDATE contacts c SET lease_time = now() + make_interval(secs => %(lease)s)
FROM due WHERE c.address = due.address
RETURNING c.address, c.address_original, c.failure_count, c.miss_count
"""

# A preference in the register is as good as a fair guess: what a contact plainly writes counts for more.
_IDENTIFY = """
WITH person AS (
  INSERT INTO tenants AS t (id, name, preference, language, language_confidence, language_time, create_time)
  VALUES (%(tenant_id)s, %(name)s, %(preference)s, %(language)s::text,
    CASE WHEN %(language)s::text IS NOT NULL THEN %(confidence)s END,
    CASE WHEN %(language)s::text IS NOT NULL THEN now() END, now())
  ON CONFLICT (id) DO UPDATE SET name = excluded.name, preference = excluded.preference,
    language = coalesce(t.language, excluded.language),
    language_confidence = coalesce(t.language_confidence, excluded.language_confidence),
    language_time = coalesce(t.language_time, excluded.language_time)
), ended AS (
  UPDATE tenant_numbers SET end_time = now()
  WHERE address = %(address)s AND end_time IS NULL AND tenant_id <> %(tenant_id)s
)
UPDATE contacts SET tenant_id = %(tenant_id)s WHERE address = %(address)s
"""

# A statement of its own: the index takes a new current row once the old one has ended.
_REMEMBER = """
INSERT INTO tenant_numbers (id, address, tenant_id, start_time)
VALUES (%(id)s::uuid, %(address)s, %(tenant_id)s, now())
ON CONFLICT (address) WHERE end_time IS NULL DO NOTHING
"""

_SETTLE = """
UPDATE contacts SET lease_time = NULL, check_time = CASE WHEN %(failed)s THEN check_time ELSE now() END,
  lookup_time = now() + make_interval(secs => %(again_after)s::float8),
  failure_count = CASE WHEN %(failed)s THEN failure_count + 1 ELSE 0 END,
  miss_count = CASE WHEN %(missed)s THEN miss_count + 1 WHEN %(failed)s THEN miss_count ELSE 0 END
WHERE address = %(address)s
"""

_CLAIM_PUSH = """
WITH due AS (
  SELECT id FROM tenants WHERE push_time <= now() ORDER BY push_time LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
UPDATE tenants t SET push_time = now() + make_interval(secs => %(lease)s)
FROM due WHERE t.id = due.id
RETURNING t.id, t.language, t.push_count
"""

_SETTLE_PUSH = """
UPDATE tenants SET preference = %(language)s, push_count = 0,
  push_time = CASE WHEN language IS DISTINCT FROM %(language)s THEN now() END
WHERE id = %(tenant_id)s
"""

_POSTPONE_PUSH = """
UPDATE tenants SET push_count = push_count + 1,
  push_time = now() + make_interval(secs => %(again_after)s::float8)
WHERE id = %(tenant_id)s
"""

_UNLINKED = """
SELECT c.id::text, m.direction, m.sender, m.sender_original, m.recipient, m.recipient_original,
  m.message_time, c.channel_family = 'sms' AND c.tenant_id IS NULL AND m.id IS NOT NULL
FROM conversations c LEFT JOIN messages m ON m.id = c.last_message_id
WHERE c.id > %s::uuid ORDER BY c.id LIMIT %s
"""

_CONTACTS_OF = """
SELECT m.direction, m.sender, m.sender_original, m.recipient, m.recipient_original, m.message_time
FROM messages m JOIN conversations c ON c.id = m.conversation_id
WHERE m.id = ANY(%s::uuid[]) AND c.channel_family = 'sms'
  AND (m.direction = 'inbound' OR c.tenant_id IS NULL)
"""


class Meeting(NamedTuple):
    """A contact's number, as it was received, and when they last wrote or were written to."""

    address: str
    original: str
    time: datetime


class Claimed(NamedTuple):
    """A contact to ask about; this process has a lease on it."""

    address: str
    original: str | None
    failure_count: int
    miss_count: int


class Push(NamedTuple):
    """A language to write into the register; this process has a lease on it."""

    tenant_id: str
    language: str
    push_count: int


class Link(NamedTuple):
    """One conversation that got its tenant, or another one."""

    conversation_id: str
    old: str | None
    new: str


async def contacts_of(connection: HotConnection, message_ids: Sequence[str]) -> list[Meeting]:
    """Return the contacts of text messages; of outbound ones only where no tenant is linked yet."""
    cursor = await connection.execute(_CONTACTS_OF, (plain_array(message_ids),))
    return [_meeting(*row) for row in await cursor.fetchall()]


async def read_unlinked(
    connection: HotConnection, after: str, limit: int
) -> tuple[list[Meeting], str | None]:
    """Return the contacts of conversations without a tenant among the `limit` after an id.

    With them the id after which to go on, None at the end.
    """
    cursor = await connection.execute(_UNLINKED, (after, limit))
    rows = await cursor.fetchall()
    return [_meeting(*row[1:7]) for row in rows if row[7]], rows[-1][0] if len(rows) == limit else None


async def meet(connection: HotConnection, met: Sequence[Meeting], *, pause: float, refresh: float) -> None:
    """Note that contacts were heard of, so that somebody asks about those who are not known."""
    await connection.execute(
        _MEET,
        {
            "address": text_array([meeting.address for meeting in met]),
            "original": text_array([meeting.original for meeting in met]),
            "time": text_array([meeting.time.isoformat() for meeting in met]),
            "pause": pause,
            "refresh": refresh,
        },
    )


async def link(connection: HotConnection, addresses: Sequence[str]) -> list[Link]:
    """Give the conversations of contacts the tenants that the contacts are known to be."""
    cursor = await connection.execute(_LINK, {"address": text_array(addresses)})
    return [Link._make(row) for row in await cursor.fetchall()]


async def claim(connection: HotConnection, *, limit: int, lease: float) -> list[Claimed]:
    """Take contacts that are due to be asked about, for `lease` seconds; each goes to one caller."""
    cursor = await connection.execute(_CLAIM, {"limit": limit, "lease": lease})
    return [Claimed._make(row) for row in await cursor.fetchall()]


async def identify(
    connection: HotConnection,
    address: str,
    *,
    tenant_id: str,
    name: str | None,
    preference: str | None,
    language: str | None,
    confidence: float,
) -> None:
    """Note who a contact is, and end what the number was before."""
    await connection.execute(
        _IDENTIFY,
        {
            "address": address,
            "tenant_id": tenant_id,
            "name": storable(name),
            "preference": storable(preference),
            "language": language,
            "confidence": confidence,
        },
    )
    await connection.execute(_REMEMBER, {"id": new_id(), "address": address, "tenant_id": tenant_id})


async def settle(
    connection: HotConnection,
    address: str,
    *,
    again_after: float | None,
    failed: bool = False,
    missed: bool = False,
) -> None:
    """End the lease on a contact; `again_after` seconds say when to ask again, None: not by itself."""
    await connection.execute(
        _SETTLE, {"address": address, "again_after": again_after, "failed": failed, "missed": missed}
    )


async def claim_pushes(connection: HotConnection, *, limit: int, lease: float) -> list[Push]:
    """Take languages that are due to be written into the register, for `lease` seconds."""
    cursor = await connection.execute(_CLAIM_PUSH, {"limit": limit, "lease": lease})
    return [Push._make(row) for row in await cursor.fetchall()]


async def settle_push(connection: HotConnection, tenant_id: str, language: str | None) -> None:
    """Note which language the register has now."""
    await connection.execute(_SETTLE_PUSH, {"tenant_id": tenant_id, "language": language})


async def postpone_push(connection: HotConnection, tenant_id: str, again_after: float) -> None:
    """Try again after some seconds."""
    await connection.execute(_POSTPONE_PUSH, {"tenant_id": tenant_id, "again_after": again_after})


def _meeting(
    direction: str,
    sender: str,
    sender_original: str | None,
    recipient: str,
    recipient_original: str | None,
    time: datetime,
) -> Meeting:
    if direction == "inbound":
        return Meeting(sender, sender_original or sender, time)
    return Meeting(recipient, recipient_original or recipient, time)
