"""The transaction that applies delivery receipts: news once, states forward only, raw request kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from services.ledger.arrays import bytes_column, plain_array, plain_column, text_column
from services.ledger.database import HotConnection
from services.ledger.legal_moves import LEGAL_MOVES
from services.ledger.outbox import EVENT_SUBJECT
from services.ledger.sealing import sealed_webhooks
from services.ledger.statements import HotStatement

_LOG = HotStatement("""
INSERT INTO webhook_logs (
  id, provider, create_time, method, url, headers, body, remote_address, verdict, detail, message_ids,
  applied_count, repeated_count, parked_count, refused_count, body_size, sealed_by
)
SELECT id, provider, now(), method, url, headers, body, remote_address, verdict, detail, message_ids::uuid[],
  applied_count, repeated_count, parked_count, refused_count, body_size, %(sealed_by)s::text
FROM unnest(
  %(id)s::uuid[], %(provider)s::text[], %(method)s::text[], %(url)s::text[], %(headers)s::jsonb[],
  %(body)s::bytea[], %(remote_address)s::text[], %(verdict)s::text[], %(detail)s::text[],
  %(message_ids)s::text[], %(applied_count)s::int[], %(repeated_count)s::int[], %(parked_count)s::int[],
  %(refused_count)s::int[], %(body_size)s::int[]
) AS t(
  id, provider, method, url, headers, body, remote_address, verdict, detail, message_ids, applied_count,
  repeated_count, parked_count, refused_count, body_size
)
""")

# A failure of an attempt before the present one moves the message only where its state rests on that attempt:
# SENT, under the id the provider gave it. What waits, is under way or unknown has its own end to come. That
# an attempt was taken or has arrived counts whichever it was, and is then what the state rests on.
_EARLIER = "n.attempt > 0 AND n.attempt < m.attempt_count"
_MOVES = f"""m.state || '>' || n.state = ANY({LEGAL_MOVES}) AND NOT ({_EARLIER}
      AND n.state IN ('undelivered', 'failed')
      AND (m.state <> 'sent' OR m.provider_message_id IS DISTINCT FROM n.provider_message_id))"""

# A receipt whose key is known changes nothing. News of a message that has moved on already is an event of
# type `receipt`; news of a message we do not know stays in provider_events without one.
# The UPDATE returns all that the steps after it need: a plan made once joins its parts row by row. For the
# same reason what is news is looked up (IS TRUE keeps it a hash), not joined.
_APPLY = HotStatement(f"""
WITH input AS (
  SELECT * FROM unnest(
    %(provider)s::text[], %(event_key)s::text[], %(message_id)s::uuid[], %(state)s::text[],
    %(attempt)s::smallint[], %(provider_message_id)s::text[], %(provider_time)s::timestamptz[],
    %(error_code)s::text[], %(detail)s::text[], %(webhook_log_id)s::uuid[]
  ) AS t(
    provider, event_key, message_id, state, attempt, provider_message_id, provider_time, error_code, detail,
    webhook_log_id
  )
), noted AS (
  INSERT INTO provider_events (provider, event_key, message_id, webhook_log_id, create_time)
  SELECT provider, event_key, message_id, webhook_log_id, now() FROM input ORDER BY provider, event_key
  ON CONFLICT (provider, event_key) DO NOTHING
  RETURNING provider, event_key
), news AS (
  SELECT * FROM input WHERE ((provider, event_key) IN (SELECT provider, event_key FROM noted)) IS TRUE
  ORDER BY message_id
), moved AS (
  UPDATE messages m SET
    event_count = m.event_count + 1,
    state = CASE WHEN {_MOVES} THEN n.state ELSE m.state END,
    state_sequence = CASE WHEN {_MOVES} THEN m.event_count + 1 ELSE m.state_sequence END,
    update_time = CASE WHEN {_MOVES} THEN now() ELSE m.update_time END,
    next_attempt_time = CASE WHEN {_MOVES} THEN NULL ELSE m.next_attempt_time END,
    provider = CASE WHEN {_EARLIER} AND {_MOVES} THEN n.provider ELSE coalesce(m.provider, n.provider) END,
    provider_message_id = CASE WHEN {_EARLIER} AND {_MOVES}
      THEN coalesce(n.provider_message_id, m.provider_message_id)
      ELSE coalesce(m.provider_message_id, n.provider_message_id) END,
    error_code = CASE WHEN {_MOVES} THEN n.error_code ELSE m.error_code END,
    error_message = CASE WHEN {_MOVES} THEN n.detail ELSE m.error_message END
  FROM news n WHERE m.id = n.message_id
  RETURNING m.id, m.event_count, m.state, m.state_sequence = m.event_count AS moved, m.conversation_id,
    m.channel, m.sender, m.recipient, n.event_key, n.provider, n.state AS target, n.attempt, n.provider_time,
    n.error_code, n.detail, n.webhook_log_id
), logged AS (
  INSERT INTO message_events (
    message_id, sequence, type, create_time, provider_time, attempt_number, provider, error_code, detail
  )
  SELECT id, event_count, CASE WHEN moved THEN target ELSE 'receipt' END, now(), provider_time, attempt,
    provider, error_code,
    CASE WHEN moved THEN detail ELSE concat_ws(' ', detail, 'reported ' || nullif(target, '')) END
  FROM moved
), outboxed AS (
  INSERT INTO outbox (id, subject, message_ids, create_time, due_time)
  SELECT %(event_outbox_id)s::uuid, %(event_subject)s, array_agg(id), now(),
    now() + make_interval(secs => %(republish_after)s)
  FROM moved HAVING count(*) > 0
)
SELECT event_key, id::text, event_count, state, moved, conversation_id::text, channel, sender, recipient,
  provider, attempt, error_code, webhook_log_id::text, now()
FROM moved
UNION ALL
SELECT event_key, NULL, NULL, NULL, false, NULL, NULL, NULL, NULL, provider, attempt, NULL,
  webhook_log_id::text, now()
FROM news WHERE (message_id IN (SELECT id FROM moved)) IS NOT TRUE
""")


@dataclass(slots=True)
class WebhookLog:
    """One provider request as it is kept, and what became of it.

    `headers` is JSON without credentials. `body_size` is None when the request is kept whole. `message_ids`
    are the messages it told of, as far as they are known.
    """

    id: str
    provider: str
    method: str
    url: str
    headers: str
    body: bytes
    remote_address: str
    verdict: str
    detail: str | None = None
    body_size: int | None = None
    message_ids: Sequence[str] = ()
    applied_count: int = 0
    repeated_count: int = 0
    parked_count: int = 0
    refused_count: int = 0


@dataclass(slots=True)
class ReceiptRow:
    """One receipt to apply. `message_id` is None when the provider did not give us our id back."""

    provider: str
    event_key: str
    message_id: str | None
    state: str
    attempt: int
    provider_message_id: str | None
    provider_time: datetime | None
    error_code: str | None
    detail: str | None
    webhook_log_id: str | None


class AppliedReceipt(NamedTuple):
    """What a receipt that was news did. Without a message we know there is no `message_id`; nothing moved."""

    event_key: str
    message_id: str | None
    sequence: int
    state: str
    moved: bool
    conversation_id: str
    channel: str
    sender: str
    recipient: str
    provider: str
    attempt: int
    error_code: str | None
    webhook_log_id: str | None
    create_time: datetime


async def log_webhooks(connection: HotConnection, logs: Sequence[WebhookLog]) -> None:
    """Keep raw provider requests."""
    await _LOG.execute(
        connection,
        {
            "sealed_by": None,
            "id": plain_column([log.id for log in logs]),
            "provider": text_column([log.provider for log in logs]),
            "method": text_column([log.method for log in logs]),
            "url": text_column([log.url for log in logs]),
            "headers": text_column([log.headers for log in logs]),
            "body": bytes_column([log.body for log in logs]),
            "remote_address": text_column([log.remote_address for log in logs]),
            "verdict": text_column([log.verdict for log in logs]),
            "detail": text_column([log.detail for log in logs]),
            "message_ids": text_column(
                [plain_array(log.message_ids) if log.message_ids else None for log in logs]
            ),
            "applied_count": plain_column([log.applied_count for log in logs]),
            "repeated_count": plain_column([log.repeated_count for log in logs]),
            "parked_count": plain_column([log.parked_count for log in logs]),
            "refused_count": plain_column([log.refused_count for log in logs]),
            "body_size": plain_column([log.body_size for log in logs]),
            **(sealed_webhooks(connection.keyring, logs) if connection.keyring.sealing_id else {}),
        },
    )


def receipt_columns(receipts: Sequence[ReceiptRow]) -> dict[str, object]:
    """Return what receipts say by themselves, as parameters of a statement: an array a column."""
    return {
        "provider": text_column([r.provider for r in receipts]),
        "event_key": text_column([r.event_key for r in receipts]),
        "provider_message_id": text_column([r.provider_message_id for r in receipts]),
        "state": text_column([r.state for r in receipts]),
        "provider_time": text_column(
            [None if r.provider_time is None else r.provider_time.isoformat() for r in receipts]
        ),
        "error_code": text_column([r.error_code for r in receipts]),
        "detail": text_column([r.detail for r in receipts]),
        "webhook_log_id": plain_column([r.webhook_log_id for r in receipts]),
    }


async def apply_receipts(
    connection: HotConnection, receipts: Sequence[ReceiptRow], *, event_outbox_id: str, republish_after: float
) -> list[AppliedReceipt]:
    """Apply receipts of distinct messages; what comes back is the news among them.

    Two receipts of one call must not name the same message or carry the same key.
    """
    cursor = await _APPLY.execute(
        connection,
        {
            **receipt_columns(receipts),
            "message_id": plain_column([r.message_id for r in receipts]),
            "attempt": plain_column([r.attempt for r in receipts]),
            "event_outbox_id": event_outbox_id,
            "event_subject": EVENT_SUBJECT,
            "republish_after": republish_after,
        },
    )
    return [AppliedReceipt._make(row) for row in await cursor.fetchall()]
