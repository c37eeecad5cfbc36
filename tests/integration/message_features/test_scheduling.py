"""Scheduled sends: on time, once each, whoever restarts; never before their time and never after validity."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from posthouse.v1 import event_pb2, message_pb2
from posthouse.v1 import message_service_pb2 as pb
from services.ledger.database import Database
from services.ledger.relay import Relay
from tests.integration.dispatch.house import House
from tests.integration.dispatch.scripted import ScriptedProvider
from tests.integration.ledger.rows import CONTACT, OURS, Book, eventually, make_draft
from tests.servers import NatsForTests

pytestmark = pytest.mark.integration


def timestamp(time: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(time)
    return made


def soon(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


async def schedule(house: House, times: Sequence[datetime]) -> list[str]:
    """Schedule a message for each time, in one call, and return the ids."""
    response = await house.stub.SendMessages(
        pb.SendMessagesRequest(
            requests=[
                pb.SendMessageRequest(
                    sender=OURS, recipient=CONTACT, body=f"at {n}", send_time=timestamp(time)
                )
                for n, time in enumerate(times)
            ]
        )
    )
    return [result.message.id for result in response.results]


async def delays(house: House, ids: Sequence[str]) -> list[float]:
    """Return the seconds from send_time to the attempt, by PostgreSQL's clock for both."""
    rows = await house.book.rows(
        "SELECT extract(epoch FROM attempt_time - send_time)::float8 FROM messages WHERE id = ANY(%s)", ids
    )
    return sorted(delay for (delay,) in rows)


@pytest.mark.parametrize("spread", [0.0, 0.001])
async def test_a_thousand_due_at_once_go_out_once_and_none_early(
    house: House, provider: ScriptedProvider, spread: float
) -> None:
    await house.dispatch()
    # A second of its own, or a moment of its own each.
    first = soon(3600)
    ids = await schedule(house, [first + timedelta(seconds=n * spread) for n in range(1000)])
    await house.bring_forward(0.5, *ids)
    await house.until("sent", *ids)
    assert provider.attempts() == {f"at {n}": 1 for n in range(1000)}
    assert (await delays(house, ids))[0] >= 0
    await house.until_outbox_is_empty()


async def test_what_is_due_while_everybody_restarts_is_sent_once(
    house: House, provider: ScriptedProvider
) -> None:
    running = await house.dispatch()
    ids = await schedule(house, [soon(0.3 + 0.01 * n) for n in range(100)])
    await house.until("sent", ids[0])
    await running.kill()
    await asyncio.sleep(0)
    await house.dispatch()
    await house.dispatch()

    async def settled() -> bool:
        return bool(
            await house.book.value(
                "SELECT count(*) = 0 FROM messages WHERE state IN ('scheduled', 'pending', 'sending')"
            )
        )

    await eventually(settled)
    # Only what was under way when the dispatcher was killed may be in doubt.
    doubtful = await house.book.value("SELECT count(*) FROM messages WHERE state = 'unknown'")
    sent = await house.book.value("SELECT count(*) FROM messages WHERE state = 'sent'")
    assert sent + doubtful == 100
    assert max(provider.attempts().values()) == 1


async def test_nothing_is_sent_before_its_time_and_it_shows(house: House, provider: ScriptedProvider) -> None:
    await house.dispatch()
    time = soon(3600)
    (waits,) = await schedule(house, [time])
    shown = (await house.stub.GetMessage(pb.GetMessageRequest(message_id=waits))).message
    assert shown.state == message_pb2.MESSAGE_STATE_SCHEDULED
    assert shown.send_time == shown.next_attempt_time == timestamp(time)
    # Another message wakes dispatcher and relays up, and must not take it along.
    (now,) = await house.send("now")
    await house.until("sent", now)
    (short,) = await schedule(house, [soon(3600)])
    await house.bring_forward(0.5, short)
    await house.until("sent", short)
    assert (await delays(house, [short]))[0] >= 0
    assert await house.book.state(waits) == "scheduled"
    assert provider.bodies == ["now", "at 0"]
    shown = (await house.stub.GetMessage(pb.GetMessageRequest(message_id=short))).message
    assert not shown.HasField("next_attempt_time")


async def test_cancelling_races_the_claim_and_one_of_them_wins(
    house: House, provider: ScriptedProvider
) -> None:
    await house.dispatch()
    # The first cannot be claimed in time, the last cannot be cancelled in time.
    ids = await schedule(house, [soon(3600), *[soon(0.5 + 0.005 * n) for n in range(59)]])

    async def cancel(message_id: str, after: float) -> bool:
        await asyncio.sleep(after)
        if message_id == ids[-1]:
            await house.until("sent", message_id)
        try:
            await house.stub.CancelMessage(pb.CancelMessageRequest(message_id=message_id))
        except Exception:  # noqa: BLE001 - a claim has won; the states tell
            return False
        return True

    won = await asyncio.gather(*(cancel(one, 0.3 + 0.05 * n) for n, one in enumerate(ids)))
    cancelled = [one for one, did in zip(ids, won, strict=True) if did]
    sent = [one for one, did in zip(ids, won, strict=True) if not did]
    assert cancelled
    assert sent
    await house.until("cancelled", *cancelled)
    await house.until("sent", *sent)
    assert {message.id for message in provider.sent} == set(sent)


@pytest.mark.parametrize(("days", "fault"), [(34.99, ""), (35.01, "send_time")])
async def test_how_far_ahead(house: House, refusal: Any, days: float, fault: str) -> None:
    request = pb.SendMessageRequest(
        sender=OURS, recipient=CONTACT, body="far", send_time=timestamp(soon(days * 86_400))
    )
    if fault:
        assert [v.field for v in (await refusal(house.stub.SendMessage(request))).violations] == [fault]
    else:
        accepted = (await house.stub.SendMessage(request)).message
        assert accepted.state == message_pb2.MESSAGE_STATE_SCHEDULED
        assert accepted.send_time == request.send_time


async def test_a_broker_that_was_away_past_the_validity_makes_it_expire(
    house: House, provider: ScriptedProvider, nats_server: NatsForTests
) -> None:
    await house.dispatch()
    (first,) = await house.send("first")
    await house.until("sent", first)
    nats_server.kill(delete_store=True)
    late, valid = await house.send(
        "late", "valid", send_time=timestamp(soon(3600)), expire_time=timestamp(soon(7200))
    )
    await house.make_due(late, valid)
    await house.book.rows("UPDATE messages SET expire_time = now() WHERE id = %s", late)
    nats_server.start()
    await house.until("failed", late)
    await house.until("sent", valid)
    assert provider.bodies == ["first", "valid"]
    assert await house.book.story(late) == ["scheduled", "failed"]
    assert await house.book.rows("SELECT error_code, attempt_count FROM messages WHERE id = %s", late) == [
        ("expired", 0)
    ]


async def test_a_slow_provider_does_not_make_later_batches_late(
    house: House, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is claimed in time may still have to wait for the batches before it."""
    provider.batch_size = 1
    provider.gate.clear()
    running = await house.dispatch()
    one, two = await house.send("one", "two", expire_time=timestamp(soon(3600)))
    await house.until("sending", one, two)

    async def one_is_there() -> bool:
        return bool(provider.bodies)

    await eventually(one_is_there)
    clock = running.ownership._database.clock
    tell = clock.hear
    monkeypatch.setattr(clock, "hear", lambda _: None)
    tell(datetime.now(UTC) + timedelta(hours=2))
    provider.gate.set()
    await house.until("sent", one)
    await house.until("failed", two)
    assert provider.bodies == ["one"]
    assert await house.book.rows("SELECT error_code FROM messages WHERE id = %s", two) == [("expired",)]
    assert await house.book.rows("SELECT number FROM dispatch_attempts WHERE message_id = %s", two) == []


@dataclass
class RecordingBus:
    """A broker that remembers what was published, and may refuse every so many messages."""

    connected: bool = True
    refuse_every: int = 0
    # Where its first publication waits for those of others.
    start: asyncio.Barrier | None = None
    calls: int = 0
    envelopes: list[event_pb2.DispatchEnvelope] = field(default_factory=list)

    async def publish(self, subject: str, payload: bytes, *, message_id: str, **_: object) -> None:
        self.calls += 1
        if self.calls == 1 and self.start is not None:
            await self.start.wait()
        await asyncio.sleep(0)
        assert message_id
        if self.refuse_every and self.calls % self.refuse_every == 0:
            raise TimeoutError
        if subject.startswith("posthouse.dispatch"):
            self.envelopes.append(event_pb2.DispatchEnvelope.FromString(payload))


async def _store_due(database: Database, count: int) -> set[str]:
    """Store messages that became due, each in a row of its own."""
    past = datetime.now(UTC) - timedelta(seconds=5)
    drafts = [make_draft(send_time=past + timedelta(milliseconds=n)) for n in range(count)]
    acceptance = await Book(database).accept(*drafts)
    assert await Book(database).value("SELECT count(*) FROM outbox WHERE due_time <= now()") == count
    return set(acceptance.stored)


async def test_two_relays_publish_each_due_row_once(database: Database) -> None:
    stored = await _store_due(database, 1000)
    start = asyncio.Barrier(2)
    buses = [RecordingBus(start=start), RecordingBus(start=start)]
    relays = [Relay(database, bus, republish_after=600.0) for bus in buses]  # type: ignore[arg-type]
    for relay in relays:
        relay.start()

    async def all_published() -> bool:
        return sum(len(bus.envelopes) for bus in buses) >= 1000

    await eventually(all_published)
    for relay in relays:
        await relay.close()
    published = Counter(
        message_id for bus in buses for envelope in bus.envelopes for message_id in envelope.message_ids
    )
    assert set(published) == stored
    assert set(published.values()) == {1}
    assert all(bus.envelopes for bus in buses)


async def test_a_row_the_broker_refuses_keeps_no_other_back(database: Database) -> None:
    await _store_due(database, 150)
    bus = RecordingBus(refuse_every=3)
    relay = Relay(database, bus, republish_after=600.0)  # type: ignore[arg-type]
    relay.start()

    async def published() -> bool:
        return len(bus.envelopes) >= 100

    await eventually(published)
    await relay.close()
