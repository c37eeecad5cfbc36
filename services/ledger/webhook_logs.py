"""Reads the raw requests of providers that were kept, and notes what a replay made of one."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.ledger.arrays import plain_array
from services.ledger.database import keyring_of
from services.ledger.receipts import WebhookLog
from services.ledger.sealing import open_request
from services.ledger.tables import messages, webhook_logs

_SUMMARY = (
    webhook_logs.c.id,
    webhook_logs.c.provider,
    webhook_logs.c.create_time,
    webhook_logs.c.verdict,
    webhook_logs.c.detail,
    webhook_logs.c.message_ids,
    webhook_logs.c.applied_count,
    webhook_logs.c.repeated_count,
    webhook_logs.c.parked_count,
    webhook_logs.c.refused_count,
    webhook_logs.c.replay_time,
)

_REPLAYED = sa.text("""
UPDATE webhook_logs SET verdict = :verdict, detail = :detail, replay_time = now(),
  applied_count = applied_count + :applied, repeated_count = :repeated, parked_count = :parked,
  refused_count = :refused, message_ids = (
    SELECT array_agg(DISTINCT id)
    FROM unnest(coalesce(message_ids, '{}') || CAST(:message_ids AS uuid[])) AS id
  )
WHERE id = :id
""")

_LINK = sa.text("""
UPDATE webhook_logs w SET message_ids = (
  SELECT array_agg(DISTINCT id) FROM unnest(coalesce(w.message_ids, '{}') || t.ids) AS id
)
FROM (
  SELECT log_id, array_agg(message_id) AS ids
  FROM unnest(CAST(:log_ids AS uuid[]), CAST(:message_ids AS uuid[])) AS t(log_id, message_id)
  GROUP BY log_id
) t WHERE w.id = t.log_id
""")


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which entries: all that agree with every field that is set. Times are of arrival."""

    provider: str = ""
    verdict: str = ""
    message_id: str = ""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class LogSummary:
    """An entry without its request."""

    id: str
    provider: str
    create_time: datetime
    verdict: str
    detail: str | None
    message_ids: Sequence[str] | None
    applied_count: int
    repeated_count: int
    parked_count: int
    refused_count: int
    replay_time: datetime | None


@dataclass(frozen=True, slots=True)
class KeptRequest:
    """An entry with its request. `whole` is False when not all of it was kept."""

    id: str
    provider: str
    create_time: datetime
    method: str
    url: str
    headers: dict[str, str]
    body: bytes
    remote_address: str
    verdict: str
    whole: bool


async def list_logs(
    connection: AsyncConnection, chosen: LogFilter, *, limit: int, after: str = ""
) -> list[LogSummary]:
    """Return entries, oldest first, from behind the one with the id `after`."""
    logs = webhook_logs.c
    query = sa.select(*_SUMMARY).order_by(logs.id).limit(limit)
    if after:
        query = query.where(logs.id > after)
    if chosen.provider:
        query = query.where(logs.provider == chosen.provider)
    if chosen.verdict:
        query = query.where(logs.verdict == chosen.verdict)
    if chosen.since is not None:
        query = query.where(logs.create_time >= chosen.since)
    if chosen.until is not None:
        query = query.where(logs.create_time < chosen.until)
    if chosen.message_id:
        # What tells of a message came no earlier, unless it was replayed.
        created = sa.select(messages.c.create_time).where(messages.c.id == chosen.message_id)
        query = query.where(
            logs.message_ids.contains([chosen.message_id]),
            sa.or_(logs.create_time >= created.scalar_subquery(), logs.replay_time.is_not(None)),
        )
    return [LogSummary(*row) for row in await connection.execute(query)]


async def get_log(connection: AsyncConnection, log_id: str) -> KeptRequest | None:
    """Return an entry, or None when there is none of this id (any more).

    Raises KeyMissingError or ContentDamagedError when its request cannot be opened.
    """
    logs = webhook_logs.c
    query = sa.select(
        logs.id,
        logs.provider,
        logs.create_time,
        logs.method,
        logs.url,
        logs.headers,
        logs.body,
        logs.remote_address,
        logs.verdict,
        logs.body_size.is_(None).label("whole"),
        logs.sealed_by,
    ).where(logs.id == log_id)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    url, headers, body = row.url, row.headers, bytes(row.body)
    if row.sealed_by is not None:
        url, headers, body = open_request(keyring_of(connection), row.id, row.sealed_by, url, headers, body)
    return KeptRequest(
        id=row.id,
        provider=row.provider,
        create_time=row.create_time,
        method=row.method,
        url=url,
        headers=headers,
        body=body,
        remote_address=row.remote_address or "",
        verdict=row.verdict,
        whole=row.whole,
    )


async def link_logs(connection: AsyncConnection, pairs: Collection[tuple[str, str]]) -> None:
    """Note the messages that entries told of, as pairs of their ids, where that was not known at first.

    By this an erasure finds all raw requests that tell of a message.
    """
    parameters = {
        "log_ids": plain_array(log_id for log_id, _ in pairs),
        "message_ids": plain_array(message_id for _, message_id in pairs),
    }
    await connection.execute(_LINK, parameters)


async def note_replay(connection: AsyncConnection, log: WebhookLog) -> None:
    """Write down what a replay has made of an entry; what was applied before stays counted."""
    await connection.execute(
        _REPLAYED,
        {
            "id": log.id,
            "verdict": log.verdict,
            "detail": log.detail,
            "message_ids": plain_array(log.message_ids),
            "applied": log.applied_count,
            "repeated": log.repeated_count,
            "parked": log.parked_count,
            "refused": log.refused_count,
        },
    )
