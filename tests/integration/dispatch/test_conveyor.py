"""JetStream is a conveyor: what it loses, repeats or garbles costs time and no message."""

import asyncio
from collections.abc import AsyncIterator

import nats
import pytest
import structlog
from nats.js import JetStreamContext

from posthouse.v1 import event_pb2
from tests.integration.ledger.rows import eventually
from tests.servers import NatsForTests

from .house import House
from .scripted import ScriptedProvider

pytestmark = pytest.mark.integration


@pytest.fixture
async def jetstream(house: House) -> AsyncIterator[JetStreamContext]:
    client = await nats.connect(house.settings.nats_url, reconnect_time_wait=0, max_reconnect_attempts=-1)
    yield client.jetstream()
    await client.close()


async def test_streams_deleted_under_a_living_server_cost_nothing(
    house: House, provider: ScriptedProvider, jetstream: JetStreamContext
) -> None:
    await house.dispatch()
    before = await house.send(*(f"before {n}" for n in range(20)))
    await house.until("sent", *before)
    for stream in ("DISPATCH", "EVENTS", "DEADLETTER"):
        await jetstream.delete_stream(stream)
    during = await house.send(*(f"during {n}" for n in range(20)))
    await house.until("sent", *during)
    after = await house.send("after")
    await house.until("sent", *after)
    assert set(provider.attempts().values()) == {1}
    assert len(provider.sent) == 41
    await house.until_outbox_is_empty()


async def test_a_server_that_loses_its_store_costs_nothing(
    house: House, provider: ScriptedProvider, nats_server: NatsForTests
) -> None:
    provider.gate.clear()
    await house.dispatch()
    claimed = await house.send("claimed")
    await house.until("sending", *claimed)
    nats_server.kill(delete_store=True)
    # Accepted, though nobody can be told.
    while_away = await house.send(*(f"away {n}" for n in range(20)))
    provider.gate.set()
    await house.until("sent", *claimed)
    assert {await house.book.state(one) for one in while_away} == {"pending"}
    await asyncio.to_thread(nats_server.start)
    await house.until("sent", *while_away)
    assert set(provider.attempts().values()) == {1}
    await house.until_outbox_is_empty()


_UNREADABLE = "posthouse.deadletter.unreadable"


async def _put_away(jetstream: JetStreamContext) -> int:
    """Return the number of dead letters that are no messages of ours."""
    info = await jetstream.stream_info("DEADLETTER", subjects_filter=_UNREADABLE)
    return (info.state.subjects or {}).get(_UNREADABLE, 0)


@pytest.mark.parametrize(
    "poison",
    [
        b"\xff\xff\xff\xff",
        b"",
        event_pb2.DispatchEnvelope(outbox_id="}{", message_ids=["x"]).SerializeToString(),
        event_pb2.DispatchEnvelope(outbox_id="not-a-uuid").SerializeToString(),
    ],
)
async def test_a_poison_envelope_is_logged_once_and_holds_up_nobody(
    house: House,
    provider: ScriptedProvider,
    jetstream: JetStreamContext,
    poison: bytes,
) -> None:
    put_away = await _put_away(jetstream)
    with structlog.testing.capture_logs() as logs:
        before = await house.send("before")
        await house.until_published(1)
        await jetstream.publish("posthouse.dispatch.sms", poison)
        after = await house.send("after")
        await house.until_published(3)
        # Only now, so that the poison and its neighbours are taken together.
        await house.dispatch()
        await house.until("sent", *before, *after)

        async def is_gone() -> bool:
            return (await jetstream.stream_info("DISPATCH")).state.messages == 0

        # What is not acknowledged stays there.
        await eventually(is_gone)
    unreadable = [line for line in logs if line["event"] == "envelope_unreadable"]
    assert [(line["subject"], line["size"]) for line in unreadable] == [
        ("posthouse.dispatch.sms", len(poison))
    ]
    assert await _put_away(jetstream) == put_away + 1
    kept = await jetstream.get_last_msg("DEADLETTER", _UNREADABLE)
    assert (kept.data or b"", (kept.headers or {})["Posthouse-Subject"]) == (poison, "posthouse.dispatch.sms")
    assert [line for line in logs if line["event"] == "batch_failed"] == []
    assert provider.attempts() == {"before": 1, "after": 1}
    for one in (*before, *after):
        assert await house.book.story(one) == ["accepted", "sending", "sent"]
