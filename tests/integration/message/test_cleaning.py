"""Old keys and provider events are deleted, young ones are kept."""

from services.ledger.database import Database
from services.ledger.retention import Retention
from services.message.cleaning import Cleaner
from tests.integration.ledger.rows import Book

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
    ):
        await book.rows(
            f"INSERT INTO {table} ({columns}, create_time)"  # noqa: S608
            f" SELECT {values}, now() - n * interval '1 hour' FROM generate_series(1, 6000) n"
        )
    retention = Retention(idempotency_keys=DAY, provider_events=2 * DAY, dead_letters=3 * DAY)
    deleted = await Cleaner(database, retention).clean()

    assert deleted == {
        "idempotency_keys": 6000 - 23,
        "provider_events": 6000 - 47,
        "dead_letters": 6000 - 71 - 1,
    }
    # The one that was replayed lately still says since when the message's attempts count.
    assert await book.rows("SELECT max(attempt_count), count(*) FROM dead_letters") == [(100, 72)]
    for table, youngest, oldest in (("idempotency_keys", 1, 23), ("provider_events", 1, 47)):
        key = "request_id" if table == "idempotency_keys" else "event_key"
        rows = await book.rows(f"SELECT min({key}::int), max({key}::int), count(*) FROM {table}")  # noqa: S608
        assert rows == [(youngest, oldest, oldest)]
    assert set((await Cleaner(database, retention).clean()).values()) == {0}
