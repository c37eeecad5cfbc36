"""Old keys and provider events are deleted, young ones are kept."""

from services.ledger.database import Database
from services.ledger.erasing import delete_messages
from services.ledger.retention import Retention
from services.message.cleaning import Cleaner
from tests.integration.ledger.rows import Book, make_draft, settlement_for

DAY = 86_400.0


async def test_what_is_older_than_its_retention_goes(database: Database, book: Book) -> None:
    for table, columns, values in (
        (
            "idempotency_keys",
            "caller, request_id, request_hash, message_id",
            "'ann', n::text, '', gen_random_uuid()",
        ),
        ("provider_events", "provider, event_key", "'simulator', n::text"),
        (
            "dead_letters",
            "message_id, channel, reason, attempt_count, replay_time",
            "gen_random_uuid(), 'sms', 'rejected', n, CASE WHEN n = 100 THEN now() END",
        ),
        (
            "webhook_logs",
            "id, provider, method, url, headers, body, verdict",
            "gen_random_uuid(), 'simulator', 'POST', n::text, '{}', '', 'accepted'",
        ),
        (
            "parked_receipts",
            "provider, event_key, provider_message_id, state, check_time",
            "'simulator', n::text, 'SM1', 'sent', now()",
        ),
        ("trace_contexts", "message_id, traceparent", "gen_random_uuid(), n::text"),
    ):
        await book.rows(
            f"INSERT INTO {table} ({columns}, create_time)"  # noqa: S608
            f" SELECT {values}, now() - n * interval '1 hour' FROM generate_series(1, 6000) n"
        )
    retention = Retention(
        idempotency_keys=DAY,
        provider_events=2 * DAY,
        dead_letters=3 * DAY,
        webhook_logs=3 * DAY,
        parked_receipts=DAY / 2,
        trace_contexts=DAY,
    )
    deleted = await Cleaner(database, retention).clean()

    kept = (
        ("idempotency_keys", "request_id", 23),
        ("provider_events", "event_key", 47),
        ("webhook_logs", "url", 71),
        ("parked_receipts", "event_key", 11),
        ("trace_contexts", "traceparent", 23),
    )
    assert deleted == {
        **{table: 6000 - oldest for table, _, oldest in kept},
        "dead_letters": 6000 - 71 - 1,
    }
    # The one that was replayed lately still says since when the message's attempts count.
    assert await book.rows("SELECT max(attempt_count), count(*) FROM dead_letters") == [(100, 72)]
    for table, key, oldest in kept:
        rows = await book.rows(f"SELECT min({key}::int), max({key}::int), count(*) FROM {table}")  # noqa: S608
        assert rows == [(1, oldest, oldest)]
    assert set((await Cleaner(database, retention).clean()).values()) == {0}


async def test_a_dead_letter_that_is_replayed_while_old_messages_go_stays(
    database: Database, book: Book
) -> None:
    """It was failed when the old messages were looked for."""
    replayed, given_up, sending = await book.claimed(make_draft(), make_draft(), make_draft())
    await book.settle(
        settlement_for(replayed, "pending", delay=0.0),
        settlement_for(given_up, "failed", dead_reason="rejected"),
    )
    async with database.hot() as connection:
        deleted = await delete_messages(connection, [replayed.id, given_up.id, sending.id], waiting=False)
    assert deleted.messages == 1
    assert sorted(await book.rows("SELECT id::text FROM messages")) == sorted([(replayed.id,), (sending.id,)])
