"""WatchEvents over a real broker: filters, resuming, repeats, order, slowness, gaps, and the end."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence

import grpc
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from posthouse.v1 import event_pb2 as event_pb
from services.conversation import feed
from services.conversation.ordering import EventKey
from services.kit.errors import UnavailableError
from services.kit.status import RemoteError, from_rpc_error
from services.ledger.database import Database
from services.ledger.event_batches import load_events
from tests.integration.ledger.rows import Book, eventually, make_draft, settlement_for
from tests.servers import NatsForTests

from .watching import (
    ANOTHER,
    CONTACT,
    CONVERSATION,
    OTHER,
    OURS,
    Publisher,
    Watch,
    event,
    publishing,
    running_conversation,
)

pytestmark = pytest.mark.integration


@pytest.fixture
async def publisher(nats_url: str) -> AsyncIterator[Publisher]:
    async with publishing(nats_url) as publisher:
        yield publisher


async def _end_of(watch: Watch, seen: list[str]) -> RemoteError:
    """Read a stream to its end, collect the ids of its events, and return what it ended with."""
    try:
        async with asyncio.timeout(120):
            while True:
                seen.append((await watch.next()).id)
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error)


async def test_filters(database_url: str, nats_url: str, publisher: Publisher) -> None:
    async with running_conversation(database_url, nats_url) as process:
        everything = process.watch()
        one = process.watch(conversation_id=CONVERSATION.upper())
        person = process.watch(participant="(555) 000-1111")
        neither = process.watch(conversation_id=CONVERSATION, participant=OTHER)
        first = [await watch.response() for watch in (everything, one, person, neither)]
        assert [response.participant for response in first] == ["", "", OTHER, OTHER]
        here, there = event("accepted"), event("accepted", contact=OTHER)
        await publisher.publish(here, there)
        assert await everything.take(2) == [here.id, there.id]
        assert await one.take(1) == [here.id]
        assert (await person.next()).conversation_id == ANOTHER
        heartbeat = await neither.response()
        assert heartbeat.event_id
        assert not heartbeat.HasField("event")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"conversation_id": "17"}, "conversation_id"),
        ({"participant": "@@"}, "participant"),
        ({"after_event_id": "17"}, "after_event_id"),
    ],
)
async def test_refusals_name_the_field(
    database_url: str, nats_url: str, fields: dict[str, str], named: str
) -> None:
    async with running_conversation(database_url, nats_url) as process:
        watch = process.watch(fields.pop("after_event_id", ""), **fields)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await watch.response()
    assert from_rpc_error(refused.value).violations[0].field == named


async def test_batches(database_url: str, nats_url: str, publisher: Publisher) -> None:
    async with running_conversation(database_url, nats_url) as process:
        watch = process.watch(max_batch_size=2)
        await watch.response()
        events = [event("accepted") for _ in range(3)]
        await publisher.publish(*events)
        found: list[str] = []
        while len(found) < 3:
            response = await watch.response()
            assert len(response.events) <= 2
            if response.events:
                assert response.event_id == response.events[-1].event_id
            found += [each.event.id for each in response.events]
        assert found == [each.id for each in events]
        again = process.watch(response.events[0].event_id, max_batch_size=2)
        assert (await again.response()).event_id == response.events[0].event_id


# With a small ring what comes before is read from the broker.
@pytest.mark.parametrize(("ring", "times"), [(100_000, 100), (7, 20)])
async def test_resumed_a_hundred_times_it_has_seen_every_event_once(
    database_url: str, nats_url: str, publisher: Publisher, ring: int, times: int
) -> None:
    total, dice = 30 * times, random.Random(ring)  # noqa: S311 - chance, not secrets
    made = [event("accepted", contact=dice.choice([CONTACT, OTHER])) for _ in range(total)]

    async def publish() -> None:
        place = 0
        while place < total:
            count = dice.randint(1, 20)
            await publisher.publish(*made[place : place + count])
            place += count

    async with (
        running_conversation(database_url, nats_url, watch_buffer=ring) as process,
        running_conversation(database_url, nats_url, watch_buffer=ring) as other,
    ):
        watch = process.watch()
        position = (await watch.response()).event_id
        publishing = asyncio.create_task(publish())
        seen: list[str] = []
        resumed = 0
        while len(seen) < total:
            seen += await watch.take(min(dice.randint(1, 2 * total // (times + 10)), total - len(seen)))
            position = watch.leave()
            watch = dice.choice([process, other]).watch(position)
            resumed += 1
        await publishing
        assert seen == [each.id for each in made]
        assert resumed >= times
        watch.leave()


async def test_what_is_published_twice_is_seen_once(
    database_url: str, nats_url: str, publisher: Publisher
) -> None:
    async with running_conversation(database_url, nats_url) as process:
        watch = process.watch()
        start = (await watch.response()).event_id
        first, second = event("accepted"), event("accepted")
        await publisher.publish(first)
        await publisher.publish(first)  # under another id, as if the broker's own memory had ended
        await publisher.publish(second)
        assert await watch.take(2) == [first.id, second.id]
    # Another process, that has not seen the first ones as they came.
    async with running_conversation(database_url, nats_url, watch_buffer=1) as process:
        again = process.watch(start)
        assert await again.take(2) == [first.id, second.id]
        after_first = process.watch(start)
        await after_first.take(1)
        resumed = process.watch(after_first.leave())
        assert await resumed.take(1) == [second.id]


async def _delivered(database_url: str) -> list[event_pb.Event]:
    """Have a message delivered, and return its events."""
    database = Database(database_url, pool_size=8, timeout=60, name="test")
    await database.start()
    book = Book(database)
    (message,) = await book.claimed(make_draft(sender=OURS, recipient=CONTACT))
    await book.settle(settlement_for(message, "sent"))
    await book.receive(message.id, "delivered")
    kinds = await book.story(message.id)
    await database.close()
    return [event(kind, message_id=message.id, sequence=number) for number, kind in enumerate(kinds, start=1)]


async def test_the_events_of_a_message_come_in_order(
    database_url: str, nats_url: str, publisher: Publisher
) -> None:
    story = await _delivered(database_url)
    async with running_conversation(database_url, nats_url) as process:
        watch = process.watch()
        await watch.response()
        before = event("accepted")
        await publisher.publish(before)
        for number in (1, 4, 3, 2):
            await publisher.publish(story[number - 1])
        after = event("accepted")
        await publisher.publish(after)
        wanted = [each.id for each in (before, *story, after)]
        positions, seen = [], []
        for _ in wanted:
            seen.append((await watch.next()).id)
            positions.append(watch.position)
        assert seen == wanted
        # Wherever it is resumed, also between what was put forward, the rest comes once.
        for number, position in enumerate(positions[:-1], start=1):
            assert await process.watch(position).take(len(wanted) - number) == wanted[number:]
    # The same from another process that has to read it from the broker.
    async with running_conversation(database_url, nats_url, watch_buffer=1) as process:
        for number, position in enumerate(positions[:-1], start=1):
            assert await process.watch(position).take(len(wanted) - number) == wanted[number:]


async def test_what_only_the_ledger_has_is_waited_for(
    database_url: str, nats_url: str, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = await _delivered(database_url)
    failures = 0

    async def load(connection: AsyncConnection, wanted: Sequence[EventKey]) -> dict[EventKey, event_pb.Event]:
        nonlocal failures
        if failures:
            failures -= 1
            raise UnavailableError("the database does not answer")
        return await load_events(connection, wanted)

    monkeypatch.setattr(feed, "load_events", load)
    monkeypatch.setattr(feed, "_LEDGER_RETRY", 0.05)
    wanted = [one.id for one in story]
    async with running_conversation(database_url, nats_url) as process:
        watch = process.watch()
        start = (await watch.response()).event_id
        failures = 2
        await publisher.publish(story[0])
        await publisher.publish(story[3])
        assert await watch.take(4) == wanted
        assert not failures
    # Who reads the past is told to come back, and has missed nothing then.
    async with running_conversation(database_url, nats_url, watch_buffer=1) as process:
        await process.watch().response()
        failures, seen = 1, list[str]()
        again = process.watch(start)
        error = await _end_of(again, seen)
        assert (error.code, seen) == (grpc.StatusCode.UNAVAILABLE, [])
        assert await process.watch(again.position).take(4) == wanted


async def test_a_slow_watcher_is_told_where_to_resume(
    database_url: str, nats_url: str, publisher: Publisher
) -> None:
    async with running_conversation(database_url, nats_url, watch_backlog=50) as process:
        watch, marker = process.watch(conversation_id=CONVERSATION), process.watch(participant=OTHER)
        await watch.response()
        await marker.response()
        # More than flow control lets through while nobody reads.
        total = 2000
        made = [event("accepted", error_code="x" * 500) for _ in range(total)]
        for place in range(0, total, 40):
            await publisher.publish(*made[place : place + 40])
        last = event("accepted", contact=OTHER)
        await publisher.publish(last)
        assert await marker.take(1) == [last.id]
        seen: list[str] = []
        error = await _end_of(watch, seen)
        assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
        assert watch.position in error.message
        assert 0 < len(seen) < total
        seen += await process.watch(watch.position, conversation_id=CONVERSATION).take(total - len(seen))
        assert seen == [each.id for each in made]


async def test_a_lost_store_is_a_gap_that_is_said(
    database_url: str, nats_server: NatsForTests, publisher: Publisher
) -> None:
    async with running_conversation(database_url, nats_server.url) as process:
        watch = process.watch()
        position = (await watch.response()).event_id
        lost = event("accepted")
        await publisher.publish(lost)
        assert await watch.take(1) == [lost.id]
        nats_server.kill(delete_store=True)
        nats_server.start()
        response = await watch.response()
        while not response.HasField("gap"):
            assert not response.HasField("event")
            response = await watch.response()
        first = event("accepted")

        async def published() -> bool:
            try:
                await publisher.publish(first)
            except Exception:  # noqa: BLE001 - the connection may not stand yet
                return False
            return True

        await eventually(published)
        assert await watch.take(1) == [first.id]
        # Who comes with a position of the lost store is told too, and gets what there is.
        late = process.watch(position)
        assert (await late.response()).event_id == position
        assert (await late.response()).HasField("gap")
        assert await late.take(1) == [first.id]


async def test_a_broker_that_restarts_loses_nothing(
    database_url: str, nats_server: NatsForTests, publisher: Publisher
) -> None:
    async with running_conversation(database_url, nats_server.url) as process:
        watch = process.watch()
        await watch.response()
        nats_server.kill()
        nats_server.start()
        made = event("accepted")

        async def published() -> bool:
            try:
                await publisher.publish(made)
            except Exception:  # noqa: BLE001 - the connection may not stand yet
                return False
            return True

        await eventually(published)
        assert await watch.take(1) == [made.id]


async def test_stopping_tells_watchers_to_come_back(database_url: str, nats_url: str) -> None:
    async with running_conversation(database_url, nats_url, shutdown_grace=20) as process:
        watches = [process.watch() for _ in range(100)]
        for watch in watches:
            await watch.response()
        process.stop.set()
        for watch in watches:
            error = await _end_of(watch, [])
            assert error.code is grpc.StatusCode.UNAVAILABLE
            assert error.retry_after
            assert watch.position in error.message


async def test_watchers_are_bounded(database_url: str, nats_url: str) -> None:
    async with running_conversation(database_url, nats_url, watch_streams=1) as process:
        watch = process.watch()
        await watch.response()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await process.watch().response()
        assert from_rpc_error(refused.value).reason == "OVERLOADED"
        watch.leave()

        async def admitted() -> bool:
            try:
                return bool((await process.watch().response()).event_id)
            except grpc.aio.AioRpcError:
                return False

        await eventually(admitted)
