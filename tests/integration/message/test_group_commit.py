"""Group commit: one transaction for many, and yet each is answered for itself."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from services.kit.bus import Bus, BusConfig
from services.kit.errors import InvalidRequestError, PosthouseError, UnavailableError
from services.kit.fault_points import FaultPoints
from services.kit.ids import new_id
from services.ledger.accept import Intake
from services.ledger.database import Database
from services.ledger.receipts import ReceiptRow, WebhookLog
from services.ledger.relay import Relay
from services.message.commit import Committed, GroupCommitter, Unit
from tests.integration.ledger.rows import LATER, Book, eventually, make_draft, make_inbound

from .outage import answers_again, database_away

pytestmark = pytest.mark.integration

# Each passes for a draft in Python, and is refused by PostgreSQL or on the way there.
_BAD: dict[str, dict[str, Any]] = {
    "json": {"metadata": '{"a": "\\u0000"}'},
    "nul": {"body": "a\0b"},
    "surrogate": {"body": "\ud800"},
    "range": {"segment_count": 40_000},
    "null": {"priority": None},
}


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, pool_size=10, timeout=60, name="test")
    await database.start()
    yield database
    await database.close()


@pytest.fixture
async def committer(database: Database) -> AsyncIterator[GroupCommitter]:
    # No broker: what is committed stays in the outbox.
    relay = Relay(database, Bus(BusConfig(["nats://127.0.0.1:1"], "test")), republish_after=LATER)
    committer = GroupCommitter(
        database, relay, batch_size=1000, queue_size=5000, republish_after=LATER, faults=FaultPoints()
    )
    committer.start()
    yield committer
    await committer.close()


def _items(count: int = 1, **fields: Any) -> list[Intake]:
    return [Intake(new_id(), make_draft(**fields)) for _ in range(count)]


async def _together(committer: GroupCommitter, *units: Unit) -> list[Committed | BaseException]:
    """Submit units so that one transaction takes them all."""
    return await asyncio.gather(*(committer.submit(unit) for unit in units), return_exceptions=True)


async def test_concurrent_units_share_a_transaction(committer: GroupCommitter, book: Book) -> None:
    units = [Unit(items=_items(2)) for _ in range(10)]
    committed = await _together(committer, *units)
    assert await book.value("SELECT count(DISTINCT create_time) FROM messages") == 1
    for unit, one in zip(units, committed, strict=True):
        assert isinstance(one, Committed)
        assert all(one.stored(item.id) for item in unit.items)
        assert one.refused == {}


@pytest.mark.parametrize("kind", _BAD)
async def test_a_bad_item_fails_none_of_its_neighbours(
    committer: GroupCommitter, book: Book, kind: str
) -> None:
    good = [Unit(items=_items(2)) for _ in range(3)]
    (bad,) = _items(**_BAD[kind])
    mixed = Unit(items=[*_items(), bad, *_items()])
    alone = Unit(items=_items(**_BAD[kind]))
    answers = await _together(committer, good[0], mixed, good[1], alone, good[2])
    assert isinstance(answers[3], InvalidRequestError)
    for unit, answer in zip([good[0], mixed, good[1], good[2]], [*answers[:3], answers[4]], strict=True):
        assert isinstance(answer, Committed)
        assert [item.id for item in unit.items if not answer.stored(item.id)] == [
            item.id for item in unit.items if item is bad
        ]
    assert isinstance(answers[1], Committed)
    assert isinstance(answers[1].refused[bad.id], InvalidRequestError)
    assert await book.value("SELECT count(*) FROM messages") == 8
    # Nor those that come after.
    assert isinstance(await committer.submit(Unit(items=_items())), Committed)


async def test_an_id_that_is_taken_is_refused_alone(committer: GroupCommitter, book: Book) -> None:
    first, *others = _items(3)
    await committer.submit(Unit(items=[first]))
    twin = Intake(first.id, make_draft(body="another"))
    answers = await _together(committer, Unit(items=[others[0]]), Unit(items=[twin]), Unit(items=[others[1]]))
    assert [type(answer) for answer in answers] == [Committed, InvalidRequestError, Committed]
    assert await book.value("SELECT count(*) FROM messages") == 3


async def test_an_atomic_unit_is_stored_whole_or_not_at_all(committer: GroupCommitter, book: Book) -> None:
    good = Intake(new_id(), make_inbound("1"))
    bad = Intake(new_id(), make_inbound("2", **_BAD["json"]))
    log = WebhookLog(new_id(), "simulator", "POST", "https://x.test", "{}", b"", "", "accepted")
    beside = Unit(items=_items())
    answers = await _together(committer, beside, Unit(items=[good, bad], logs=[log], atomic=True))
    assert [type(answer) for answer in answers] == [Committed, InvalidRequestError]
    assert await book.rows("SELECT id::text FROM messages") == [(beside.items[0].id,)]
    assert await book.value("SELECT count(*) FROM webhook_logs") == 0
    assert await book.value("SELECT count(*) FROM provider_events") == 0


async def test_a_log_that_cannot_be_stored_fails_none_of_its_neighbours(
    committer: GroupCommitter, book: Book
) -> None:
    log = WebhookLog(new_id(), "simulator", "POST", "https://x.test", "no json", b"", "", "forged")
    beside = Unit(items=_items())
    answers = await _together(committer, Unit(logs=[log], atomic=True), beside)
    assert [type(answer) for answer in answers] == [InvalidRequestError, Committed]
    assert await book.value("SELECT count(*) FROM messages") == 1


@pytest.mark.parametrize("code", ["40P01", "40001"])
@pytest.mark.parametrize("with_log", [False, True])
async def test_deadlocks_are_repeated(
    committer: GroupCommitter, book: Book, code: str, with_log: bool
) -> None:
    await _fail_times(book, code, 3)
    logs = [WebhookLog(new_id(), "simulator", "POST", "https://x.test", "{}", b"", "", "accepted")]
    committed = await committer.submit(Unit(items=_items(), logs=logs if with_log else ()))
    assert len(committed.acceptances[0].stored) == 1
    assert await book.rows("SELECT count(*), max(event_count) FROM messages") == [(1, 1)]
    assert await book.value("SELECT count(*) FROM webhook_logs") == with_log


async def test_deadlocks_without_end_are_unavailable(committer: GroupCommitter, book: Book) -> None:
    await _fail_times(book, "40P01", 4)
    with pytest.raises(UnavailableError) as refused:
        await committer.submit(Unit(items=_items()))
    assert refused.value.retry_after
    assert await book.value("SELECT count(*) FROM messages") == 0
    assert isinstance(await committer.submit(Unit(items=_items())), Committed)


async def test_what_nobody_foresaw_ends_no_committer(committer: GroupCommitter, book: Book) -> None:
    """Refused together and refused unit by unit; and then, item by item, something that is no refusal."""
    await _fail_times(book, "22003", 2, then="XX000")
    for _ in range(4):  # twice as often as there are committers
        unit = Unit(items=_items(2))
        async with asyncio.timeout(60):
            answers = await _together(committer, unit, Unit(items=_items()))
        assert isinstance(answers[0], Committed)
        assert [answers[0].refused[item.id].reason for item in unit.items] == ["INTERNAL"] * 2
        assert isinstance(answers[1], PosthouseError)
        await book.rows("SELECT setval('faults', 1, false)")
    assert await book.value("SELECT count(*) FROM messages") == 0
    await book.rows("DROP TRIGGER fail ON messages")
    assert isinstance(await committer.submit(Unit(items=_items())), Committed)


async def _fail_times(book: Book, code: str, times: int, *, then: str = "") -> None:
    """Have PostgreSQL itself refuse the next transactions; a sequence remembers what is rolled back.

    Afterwards it takes them, or fails with the code `then`.
    """
    rest = f"RAISE EXCEPTION 'fault' USING ERRCODE = '{then}';" if then else ""
    await book.rows("CREATE SEQUENCE faults")
    await book.rows(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF nextval('faults') <= {times} THEN RAISE EXCEPTION 'fault' USING ERRCODE = '{code}'; END IF;"
        f" {rest} RETURN NEW; END $$"
    )
    await book.rows("CREATE TRIGGER fail BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION fail()")


async def test_a_caller_that_goes_away_does_not_stop_the_commit(
    committer: GroupCommitter, book: Book, database: Database
) -> None:
    async with database.hot() as connection:
        async with connection.transaction():
            await connection.execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
            (left,), (stays,) = _items(), _items()
            caller = asyncio.create_task(committer.submit(Unit(items=[left])))
            other = asyncio.create_task(committer.submit(Unit(items=[stays])))

            async def is_waiting() -> bool:
                return bool(await book.value("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted"))

            await eventually(is_waiting)
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caller
        assert (await asyncio.wait_for(other, 60)).stored(stays.id)
    stored = {row[0] for row in await book.rows("SELECT id::text FROM messages")}
    assert stored == {left.id, stays.id}


async def test_without_postgresql_nothing_is_stored_and_the_caller_is_told(
    committer: GroupCommitter, book: Book, database_url: str
) -> None:
    await committer.submit(Unit(items=_items()))
    with database_away(database_url):
        answers = await _together(committer, *(Unit(items=_items()) for _ in range(3)))
        assert [type(answer) for answer in answers] == [UnavailableError] * 3
        assert all(isinstance(answer, UnavailableError) and answer.retry_after for answer in answers)

    async def stored_again() -> bool:
        try:
            return bool((await committer.submit(Unit(items=_items()))).acceptances)
        except UnavailableError:
            return False

    await eventually(stored_again)
    await eventually(lambda: answers_again(book))
    assert await book.value("SELECT count(*) FROM messages") == 2


async def test_receipts_of_one_transaction_keep_their_order(committer: GroupCommitter, book: Book) -> None:
    (one, other) = await book.claimed(make_draft(), make_draft())

    def receipt(message_id: str, state: str, key: str) -> ReceiptRow:
        return ReceiptRow("simulator", key, message_id, state, 1, None, None, None, None, None)

    reports = [
        [receipt(one.id, "sent", "a"), receipt(other.id, "undelivered", "b")],
        [receipt(one.id, "delivered", "c"), receipt(one.id, "read", "d")],
        [receipt(one.id, "delivered", "c"), receipt(other.id, "delivered", "e")],
    ]
    await _together(committer, *(Unit(receipts=receipts) for receipts in reports))
    assert await book.story(one.id) == ["accepted", "sending", "sent", "delivered", "read"]
    assert await book.story(other.id) == ["accepted", "sending", "undelivered", "delivered"]
    assert (
        await book.value(
            "SELECT count(DISTINCT create_time) FROM message_events WHERE type NOT IN ('accepted', 'sending')"
        )
        == 1
    )


async def test_repeats_in_one_batch_are_told_apart(committer: GroupCommitter, book: Book) -> None:
    draft = make_draft(request_id="key", request_hash=b"hash")
    units = [Unit(items=[Intake(new_id(), replace(draft), "ann")]) for _ in range(5)]
    answers = await _together(committer, *units)
    stored = [
        isinstance(answer, Committed) and answer.stored(unit.items[0].id)
        for unit, answer in zip(units, answers, strict=True)
    ]
    assert stored.count(True) == 1
    assert await book.value("SELECT count(*) FROM messages") == 1


async def test_closing_commits_what_is_queued(committer: GroupCommitter, book: Book) -> None:
    waiting = [asyncio.create_task(committer.submit(Unit(items=_items()))) for _ in range(20)]
    await asyncio.sleep(0)
    await committer.close()
    assert all(task.done() for task in waiting)
    assert await book.value("SELECT count(*) FROM messages") == 20
