"""The transaction that takes messages in: message, conversation, event, outbox, in one statement."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.kit.ids import new_id
from services.ledger.arrays import bytes_column, plain_column, text_column
from services.ledger.database import HotConnection
from services.ledger.drafts import Draft
from services.ledger.outbox import EVENT_SUBJECT
from services.ledger.sealing import sealed_messages
from services.ledger.statements import HotStatement

# Most messages of one envelope; what a full lane may hold up its neighbours by.
ENVELOPE_SIZE = 500

# Rows whose idempotency key or provider event is known already take no part in the rest of the
# statement; waiting for a concurrent twin is left to the unique indexes. Nor do rows whose recipient has
# opted out: what is committed counts, whichever process it was committed by, and their keys stay free.
_ACCEPT = HotStatement("""
WITH input AS (
  SELECT *, direction = 'outbound' AND NOT transactional AND EXISTS (
    SELECT FROM opt_outs o WHERE o.recipient = t.recipient AND o.sender = t.sender
  ) AS barred FROM unnest(
    %(id)s::uuid[], %(conversation_id)s::uuid[], %(family)s::text[], %(a)s::text[], %(b)s::text[],
    %(channel)s::text[], %(direction)s::text[], %(state)s::text[], %(sender)s::text[], %(recipient)s::text[],
    %(sender_original)s::text[], %(recipient_original)s::text[], %(subject)s::text[], %(body)s::text[],
    %(html)s::text[], %(attachments)s::jsonb[], %(metadata)s::jsonb[], %(priority)s::text[],
    %(segment_count)s::smallint[], %(segment_encoding)s::text[], %(transactional)s::boolean[],
    %(caller)s::text[], %(message_time)s::timestamptz[], %(send_time)s::timestamptz[],
    %(expire_time)s::timestamptz[], %(provider)s::text[], %(provider_message_id)s::text[],
    %(event_type)s::text[], %(request_id)s::text[], %(request_hash)s::bytea[], %(event_key)s::text[],
    %(webhook_log_id)s::uuid[], %(outbox_id)s::uuid[], %(subject_name)s::text[], %(reply_to)s::text[]
  ) AS t(
    id, conversation_id, family, a, b, channel, direction, state, sender, recipient, sender_original,
    recipient_original, subject, body, html, attachments, metadata, priority, segment_count,
    segment_encoding, transactional, caller, message_time, send_time, expire_time, provider,
    provider_message_id, event_type, request_id, request_hash, event_key, webhook_log_id, outbox_id,
    subject_name, reply_to
  )
), keyed AS (
  INSERT INTO idempotency_keys (caller, request_id, request_hash, message_id, create_time)
  SELECT caller, request_id, request_hash, id, now() FROM input
  WHERE request_id IS NOT NULL AND NOT barred
  ORDER BY caller, request_id
  ON CONFLICT (caller, request_id) DO NOTHING
  RETURNING message_id
), noted AS (
  INSERT INTO provider_events (provider, event_key, message_id, webhook_log_id, create_time)
  SELECT provider, event_key, id, webhook_log_id, now() FROM input WHERE event_key IS NOT NULL
  ORDER BY provider, event_key
  ON CONFLICT (provider, event_key) DO NOTHING
  RETURNING message_id
), fresh AS (
  SELECT * FROM input
  WHERE NOT barred AND (request_id IS NULL OR id IN (SELECT message_id FROM keyed))
    AND (event_key IS NULL OR id IN (SELECT message_id FROM noted))
), stored AS (
  INSERT INTO messages (
    id, conversation_id, channel, direction, state, sender, recipient, sender_original, recipient_original,
    subject, body, html, attachments, metadata, priority, segment_count, segment_encoding, transactional,
    caller, create_time, update_time, message_time, send_time, expire_time, next_attempt_time, provider,
    provider_message_id, sealed_by, reply_to
  )
  SELECT id, conversation_id, channel, direction, state, sender, recipient, sender_original,
    recipient_original, subject, body, html, attachments, metadata, priority, segment_count,
    segment_encoding, transactional, caller, now(), now(), coalesce(message_time, now()), send_time,
    expire_time, send_time, provider, provider_message_id, %(sealed_by)s::text, reply_to
  FROM fresh
), threaded AS (
  INSERT INTO conversations AS c (
    id, channel_family, participant_a, participant_b, create_time, last_message_time, last_message_id,
    message_count, inbound_count
  )
  SELECT conversation_id, min(family), min(a), min(b), now(), now(), max(id::text)::uuid, count(*),
    count(*) FILTER (WHERE direction = 'inbound')
  FROM fresh GROUP BY conversation_id ORDER BY conversation_id
  ON CONFLICT (id) DO UPDATE SET
    last_message_time = greatest(c.last_message_time, excluded.last_message_time),
    last_message_id = excluded.last_message_id,
    message_count = c.message_count + excluded.message_count,
    inbound_count = c.inbound_count + excluded.inbound_count,
    archive_time = CASE WHEN excluded.inbound_count > 0 THEN NULL ELSE c.archive_time END
), logged AS (
  INSERT INTO message_events (message_id, sequence, type, create_time, provider)
  SELECT id, 1, event_type, now(), provider FROM fresh
), work AS (
  INSERT INTO outbox (id, subject, message_ids, create_time, due_time)
  SELECT outbox_id, min(subject_name), array_agg(id), now(),
    coalesce(min(send_time), now() + make_interval(secs => %(republish_after)s))
  FROM fresh WHERE outbox_id IS NOT NULL GROUP BY outbox_id
), news AS (
  INSERT INTO outbox (id, subject, message_ids, create_time, due_time)
  SELECT %(event_outbox_id)s::uuid, %(event_subject)s, array_agg(id), now(),
    now() + make_interval(secs => %(republish_after)s)
  FROM fresh HAVING count(*) > 0
)
SELECT now(), count(*), CASE WHEN count(*) < %(size)s THEN array_agg(id)::text[] END,
  (SELECT array_agg(id::text) FROM input WHERE barred)
FROM fresh
""")


@dataclass(slots=True)
class Intake:
    """One draft with the id it gets and who asked for it."""

    id: str
    draft: Draft
    caller: str = ""
    # Traceparent of the request, "" where nothing is traced. Not stored with the message.
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Envelope:
    """Work to publish: an outbox row of dispatch that is due now."""

    outbox_id: str
    subject: str
    message_ids: list[str]


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What the transaction did: `stored` has the ids of the items that were no repeats.

    `barred` has those whose recipient has opted out; nothing of them is stored.
    """

    create_time: datetime
    stored: frozenset[str]
    envelopes: list[Envelope]
    event_outbox_id: str
    barred: frozenset[str] = frozenset()


async def accept(connection: HotConnection, items: Sequence[Intake], *, republish_after: float) -> Acceptance:
    """Store messages and what follows from them, in one transaction; repeats are left out.

    Two items of one call must not share an idempotency key or a provider event.
    """
    outbox_ids, subjects, envelopes = _plan_envelopes(items)
    drafts = [item.draft for item in items]
    event_outbox_id = new_id()
    parameters = {
        "id": plain_column([item.id for item in items]),
        "conversation_id": plain_column([d.conversation_id for d in drafts]),
        "family": plain_column([d.family for d in drafts]),
        "a": text_column([d.participant_a for d in drafts]),
        "b": text_column([d.participant_b for d in drafts]),
        "channel": plain_column([d.channel for d in drafts]),
        "direction": plain_column([d.direction for d in drafts]),
        "state": plain_column([initial_state(d) for d in drafts]),
        "sender": text_column([d.sender for d in drafts]),
        "recipient": text_column([d.recipient for d in drafts]),
        "sender_original": text_column([d.sender_original for d in drafts]),
        "recipient_original": text_column([d.recipient_original for d in drafts]),
        "subject": text_column([d.subject for d in drafts]),
        "body": text_column([d.body for d in drafts]),
        "html": text_column([d.html for d in drafts]),
        "attachments": text_column([d.attachments for d in drafts]),
        "metadata": text_column([d.metadata for d in drafts]),
        "priority": plain_column([d.priority for d in drafts]),
        "segment_count": plain_column([d.segment_count for d in drafts]),
        "segment_encoding": plain_column([d.segment_encoding for d in drafts]),
        "transactional": plain_column([d.transactional for d in drafts]),
        "caller": text_column([item.caller for item in items]),
        "message_time": text_column([_iso(d.message_time) for d in drafts]),
        "send_time": text_column([_iso(d.send_time) for d in drafts]),
        "expire_time": text_column([_iso(d.expire_time) for d in drafts]),
        "provider": text_column([d.source for d in drafts]),
        "provider_message_id": text_column([d.provider_message_id for d in drafts]),
        "event_type": plain_column([_event_type(d) for d in drafts]),
        "request_id": text_column([d.request_id or None for d in drafts]),
        "request_hash": bytes_column([d.request_hash for d in drafts]),
        "event_key": text_column([d.event_key for d in drafts]),
        "webhook_log_id": plain_column([d.webhook_log_id for d in drafts]),
        "outbox_id": plain_column(outbox_ids),
        "subject_name": plain_column(subjects),
        "reply_to": text_column([d.reply_to for d in drafts]),
        "event_outbox_id": event_outbox_id,
        "event_subject": EVENT_SUBJECT,
        "republish_after": republish_after,
        "size": len(items),
        "sealed_by": None,
    }
    if connection.keyring.sealing_id is not None:
        parameters.update(sealed_messages(connection.keyring, items))
    cursor = await _ACCEPT.execute(connection, parameters)
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - an aggregate always has a row
    create_time, count, ids, barred = row
    if count == len(items):
        return Acceptance(create_time, frozenset(item.id for item in items), envelopes, event_outbox_id)
    stored = frozenset(ids or ())
    kept = [
        Envelope(envelope.outbox_id, envelope.subject, [i for i in envelope.message_ids if i in stored])
        for envelope in envelopes
    ]
    envelopes = [envelope for envelope in kept if envelope.message_ids]
    return Acceptance(create_time, stored, envelopes, event_outbox_id, frozenset(barred or ()))


def initial_state(draft: Draft) -> str:
    """Return the state a draft is stored in."""
    if draft.direction == "inbound":
        return "received"
    return "pending" if draft.send_time is None else "scheduled"


def dispatch_subject(channel: str, lane: str) -> str:
    """Return the subject of a channel's lane; normal has no suffix."""
    base = f"posthouse.dispatch.{channel}"
    return base if lane == "normal" else f"{base}.{lane}"


# The same of a row's `channel` and `priority`, in SQL.
DISPATCH_SUBJECT = (
    "'posthouse.dispatch.' || channel || CASE priority WHEN 'normal' THEN '' ELSE '.' || priority END"
)


def _event_type(draft: Draft) -> str:
    if draft.direction == "inbound":
        return "received"
    return "accepted" if draft.send_time is None else "scheduled"


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _plan_envelopes(items: Sequence[Intake]) -> tuple[list[str | None], list[str | None], list[Envelope]]:
    """Assign each outbound item to an outbox row: one per lane and due second, at most ENVELOPE_SIZE each."""
    outbox_ids: list[str | None] = []
    subjects: list[str | None] = []
    envelopes: list[Envelope] = []
    open_rows: dict[tuple[str, str, float], Envelope] = {}
    for item in items:
        draft = item.draft
        if draft.direction == "inbound":
            outbox_ids.append(None)
            subjects.append(None)
            continue
        due = 0.0 if draft.send_time is None else draft.send_time.timestamp()
        key = (draft.channel, draft.priority, due)
        envelope = open_rows.get(key)
        if envelope is None or len(envelope.message_ids) >= ENVELOPE_SIZE:
            envelope = Envelope(new_id(), dispatch_subject(draft.channel, draft.priority), [])
            open_rows[key] = envelope
            if not due:
                envelopes.append(envelope)
        envelope.message_ids.append(item.id)
        outbox_ids.append(envelope.outbox_id)
        subjects.append(envelope.subject)
    return outbox_ids, subjects, envelopes
