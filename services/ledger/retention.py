"""Deletes what has been kept long enough, a few thousand rows at a time."""

from dataclasses import dataclass
from typing import Final

from services.ledger.database import HotConnection

# Rows of one statement: its locks and its WAL stay small beside the traffic.
_BATCH: Final = 5000

# The index on create_time finds the old end of each table.
_OLD = """
DELETE FROM {table} WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM {table} WHERE create_time < now() - make_interval(secs => %s) LIMIT %s
))
"""
_PLAIN: Final = (
    "idempotency_keys",
    "provider_events",
    "webhook_logs",
    "parked_receipts",
    "trace_contexts",
    "event_deliveries",
)
_DELETE: Final = {
    **{table: _OLD.format(table=table) for table in _PLAIN},
    # One that was replayed says since when the message's attempts count: it is kept as long from then on.
    "dead_letters": """
WITH kept AS (SELECT now() - make_interval(secs => %s) AS since)
DELETE FROM dead_letters WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM dead_letters, kept
  WHERE create_time < kept.since AND coalesce(replay_time, create_time) < kept.since LIMIT %s
))
""",
}


@dataclass(frozen=True, slots=True)
class Retention:
    """How long rows are kept, in seconds."""

    idempotency_keys: float
    provider_events: float
    dead_letters: float
    webhook_logs: float
    parked_receipts: float
    trace_contexts: float = 7 * 86_400.0


async def delete_expired(connection: HotConnection, table: str, keep: float) -> int:
    """Delete the rows of a table older than `keep` seconds and return how many there were."""
    deleted = 0
    while True:
        cursor = await connection.execute(_DELETE[table], (keep, _BATCH))
        deleted += cursor.rowcount
        if cursor.rowcount < _BATCH:
            return deleted
