"""A dispatcher dies in the middle of its work: another one finishes it and sends nothing twice."""

import nats
import pytest

from posthouse.v1 import event_pb2
from services.kit.ids import new_id
from services.ledger.claims import claim
from services.providers.base import Absent, Found

from .house import House
from .scripted import ScriptedProvider

pytestmark = pytest.mark.integration


async def test_its_messages_are_asked_for_and_settled_by_another(
    house: House, provider: ScriptedProvider
) -> None:
    provider.batch_size = 1
    provider.gate.clear()
    doomed = await house.dispatch()
    # Of one envelope: the first is with the provider, the second was claimed and not sent.
    arrived, unsent = await house.send("arrived", "unsent")
    await house.until("sending", arrived, unsent)
    provider.answers = {"arrived": [Found("P1")], "unsent": [Absent()]}
    await doomed.kill()
    assert provider.bodies == ["arrived"]
    assert await house.book.state(unsent) == "sending"
    provider.gate.set()
    await house.dispatch()
    await house.until("sent", arrived, unsent)
    assert provider.attempts() == {"arrived": 1, "unsent": 1}
    assert await house.book.story(arrived) == ["accepted", "sending", "unknown", "sent"]
    assert await house.book.story(unsent) == [
        *["accepted", "sending", "unknown", "retrying", "sending", "sent"]
    ]
    assert await house.book.rows(
        "SELECT number, outcome FROM dispatch_attempts WHERE message_id = %s ORDER BY number", unsent
    ) == [(1, "unknown"), (2, "accepted")]
    await house.until_outbox_is_empty()


async def test_the_work_of_the_living_is_left_to_them(house: House, provider: ScriptedProvider) -> None:
    provider.gate.clear()
    for _ in range(2):
        await house.dispatch()
    first, second = house.dispatchers
    ids = [(await house.send(body, recipient=f"+1555987100{n}"))[0] for n, body in enumerate("abc")]
    await house.until("sending", *ids)
    owners = dict(
        await house.book.rows(
            "SELECT message_ids[1]::text, owner FROM outbox WHERE subject LIKE 'posthouse.dispatch.%%'"
        )
    )
    provider.answers = {body: [Found(f"P{body}")] for body in "abc"}
    await first.kill()
    killed = [one for one in ids if owners[one] == first.ownership.key]
    kept = [one for one in ids if owners[one] == second.ownership.key]
    assert len(killed) + len(kept) == 3
    await house.until("sent", *killed)
    for one in kept:
        assert await house.book.story(one) == ["accepted", "sending"]
    provider.gate.set()
    await house.until("sent", *ids)
    assert provider.attempts() == {"a": 1, "b": 1, "c": 1}
    for one in kept:
        assert await house.book.story(one) == ["accepted", "sending", "sent"]


async def test_a_redelivered_envelope_does_not_bury_what_its_dispatcher_left(
    house: House, provider: ScriptedProvider
) -> None:
    """The dead one had claimed but not acknowledged, so the broker brings the envelope as it first was."""
    (orphan,) = await house.send("orphan")
    await house.until_published(1)
    outbox_id = await house.book.value(
        "SELECT id::text FROM outbox WHERE subject LIKE 'posthouse.dispatch.%%'"
    )
    async with house.database.hot() as connection:
        claimed, _ = await claim(
            connection,
            [outbox_id],
            owner=77,
            lease=600.0,
            event_outbox_id=new_id(),
            republish_after=0.0,
        )
    assert [message.id for message in claimed] == [orphan]
    # It has been swept, but what the sweeper publishes is still behind the first in the queue.
    await house.book.rows(
        "UPDATE outbox SET owner = 0, due_time = now() + interval '1 hour' WHERE id = %s", outbox_id
    )
    provider.answers = {"orphan": [Found("P1")]}
    await house.dispatch()
    await house.until("sent", orphan)
    assert provider.sent == []
    await house.until_outbox_is_empty()


async def test_work_under_way_is_finished_on_a_drain(house: House, provider: ScriptedProvider) -> None:
    provider.gate.clear()
    running = await house.dispatch(shutdown_grace=60.0)
    (one,) = await house.send("one")
    await house.until("sending", one)
    running.stop.set()
    provider.gate.set()
    await running.close()
    assert await house.book.story(one) == ["accepted", "sending", "sent"]
    # What comes now is left to the next.
    (two,) = await house.send("two")
    client = await nats.connect(house.settings.nats_url)
    info = await client.jetstream().stream_info("DISPATCH")
    await client.close()
    assert info.state.messages <= 1
    assert await house.book.state(two) == "pending"
    await house.dispatch()
    await house.until("sent", one, two)
    assert provider.attempts() == {"one": 1, "two": 1}


async def test_what_no_provider_was_given_goes_back_when_the_grace_is_over(
    house: House, provider: ScriptedProvider
) -> None:
    provider.gate.clear()
    running = await house.dispatch(shutdown_grace=0.5)
    (one,) = await house.send("one")
    await house.until("sending", one)
    # The same conversation: they wait for the first, claimed.
    behind = [*await house.send("two"), *await house.send("three")]
    await house.until("sending", *behind)
    await running.close()
    assert [await house.book.state(each) for each in (one, *behind)] == ["sending", "pending", "pending"]
    provider.gate.set()
    provider.answers["one"] = [Found("P-1")]
    await house.dispatch()
    await house.until("sent", one, *behind)
    assert provider.attempts() == {"one": 1, "two": 1, "three": 1}
    assert "unknown" in await house.book.story(one)
    for each in behind:
        assert await house.book.story(each) == ["accepted", "sending", "retrying", "sending", "sent"]
    await house.until_outbox_is_empty()


async def test_what_is_redelivered_after_it_was_settled_changes_nothing(
    house: House, provider: ScriptedProvider
) -> None:
    await house.dispatch()
    (one,) = await house.send("one")
    outbox = await house.book.rows("SELECT id::text FROM outbox WHERE subject LIKE 'posthouse.dispatch.%%'")
    await house.until("sent", one)
    client = await nats.connect(house.settings.nats_url)
    envelope = event_pb2.DispatchEnvelope(
        outbox_id=outbox[0][0] if outbox else new_id(), message_ids=[one]
    ).SerializeToString()
    await client.jetstream().publish("posthouse.dispatch.sms", envelope)
    await client.jetstream().publish("posthouse.dispatch.sms.inquiry", envelope)
    await client.close()
    (two,) = await house.send("two")
    await house.until("sent", two)
    assert provider.attempts() == {"one": 1, "two": 1}
    assert await house.book.story(one) == ["accepted", "sending", "sent"]
    assert provider.asked == []
