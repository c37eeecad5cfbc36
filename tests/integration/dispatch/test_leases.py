"""A lease goes on while its batch works, and a dispatcher that has lost one sends no more of it."""

import asyncio

import nats
import pytest

from posthouse.v1 import event_pb2
from services.providers.base import Absent
from tests.integration.ledger.rows import eventually

from .house import House
from .scripted import ScriptedProvider

pytestmark = pytest.mark.integration

_LEASE = 1.0


async def _publish_again(house: House, outbox_id: str, *message_ids: str) -> None:
    """Deliver an envelope as after a pause of its broker, and wait until it was looked at."""
    client = await nats.connect(house.settings.nats_url)
    envelope = event_pb2.DispatchEnvelope(outbox_id=outbox_id, message_ids=message_ids)
    await client.jetstream().publish("posthouse.dispatch.sms", envelope.SerializeToString())

    async def acknowledged() -> bool:
        return (await client.jetstream().stream_info("DISPATCH")).state.messages == 0

    await eventually(acknowledged)
    await client.close()


async def test_an_envelope_that_is_delivered_again_is_not_taken_from_who_works_on_it(
    house: House, provider: ScriptedProvider
) -> None:
    provider.gate.clear()
    await house.dispatch(dispatch_lease=_LEASE)
    (slow,) = await house.send("slow")
    await house.until("sending", slow)
    outbox_id = await house.book.value(
        "SELECT id::text FROM outbox WHERE subject LIKE 'posthouse.dispatch.%%'"
    )
    await _publish_again(house, outbox_id, slow)
    begun = await house.book.value("SELECT due_time FROM outbox WHERE id = %s", outbox_id)

    async def renewed() -> bool:
        due = await house.book.value("SELECT due_time FROM outbox WHERE id = %s", outbox_id)
        return bool((due - begun).total_seconds() > 2 * _LEASE)

    await eventually(renewed)
    provider.gate.set()
    await house.until("sent", slow)
    assert await house.book.story(slow) == ["accepted", "sending", "sent"]


async def test_a_dispatcher_whose_lease_has_ended_leaves_what_it_has_not_begun(
    house: House, provider: ScriptedProvider
) -> None:
    """As after it was stopped: its lock is still held, and another has taken its envelope over."""
    provider.batch_size = 1
    provider.gate.clear()
    provider.answers = {"second": [Absent()]}
    stopped = await house.dispatch(dispatch_lease=_LEASE)
    first, second = await house.send("first", "second")
    await house.until("sending", first, second)

    async def begun() -> bool:
        return provider.bodies == ["first"]

    await eventually(begun)
    leases = stopped.dispatcher._means.leases
    leases.close()
    hidden, provider.gate = provider.gate, asyncio.Event()
    provider.gate.set()
    # Whoever sends for the first waits at the old gate.
    other = await house.dispatch(dispatch_lease=_LEASE)
    assert other.ownership.key != stopped.ownership.key
    await house.until("sent", second)
    hidden.set()
    await house.until("sent", first)
    await house.until_outbox_is_empty()
    assert provider.attempts() == {"first": 1, "second": 1}
