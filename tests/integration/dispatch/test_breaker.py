"""A failing provider is left alone, tried again with care, and every dispatcher knows."""

import asyncio
from functools import partial
from typing import Any

import grpc
import nats
import pytest
from prometheus_client import REGISTRY

import services.dispatch.__main__ as dispatch_process
from posthouse.v1 import dispatch_pb2, event_pb2
from posthouse.v1 import dispatch_service_pb2 as pb
from posthouse.v1 import message_service_pb2 as message_pb
from services.dispatch.breakers import Breakers
from services.kit.status import from_rpc_error
from services.providers.base import Retryable
from tests.clock import Clock
from tests.integration.ledger.rows import CONTACT, OURS, eventually

from .house import House, RunningDispatcher
from .scripted import ScriptedProvider
from .steering import BOTH, SecondProvider, breaker_states, install, steering

pytestmark = pytest.mark.integration

_CLOSED = dispatch_pb2.BREAKER_STATE_CLOSED
_OPEN = dispatch_pb2.BREAKER_STATE_OPEN


class Down(ScriptedProvider):
    """Fails for everybody until it is mended."""

    down = True

    async def send(self, messages: Any) -> list[Any]:
        outcomes = await super().send(messages)
        return [Retryable("503", "down")] * len(messages) if self.down else outcomes


# Longer than any test takes: what is put off by it comes back only when a test says so.
_COOL_DOWN = 600.0


@pytest.fixture
async def provider() -> Down:
    return Down()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the breakers of dispatchers that are started from now on."""
    clock = Clock()
    monkeypatch.setattr(dispatch_process, "Breakers", partial(Breakers, clock=clock))
    return clock


async def _until_state(running: RunningDispatcher, name: str, state: int) -> None:
    async with steering(running) as stub:

        async def reached() -> bool:
            return (await breaker_states(stub)).get(name) == state

        await eventually(reached)


async def _hasten(house: House, *message_ids: str) -> None:
    """Make what the breaker has put off due."""
    await house.book.rows(
        "UPDATE outbox SET due_time = now() WHERE owner IS NULL AND message_ids && %s::uuid[]"
        " AND due_time > now() + interval '2 s'",
        list(message_ids),
    )


async def _until_sent(house: House, *message_ids: str) -> None:
    """Wait until messages are sent, some of which may be put off while one looks."""

    async def reached() -> bool:
        await _hasten(house, *message_ids)
        return bool(
            await house.book.value(
                "SELECT bool_and(state = 'sent') FROM messages WHERE id = ANY(%s)", list(message_ids)
            )
        )

    await eventually(reached)


def _gauge(provider: str) -> float | None:
    return REGISTRY.get_sample_value("posthouse_breaker_state", {"provider": provider, "channel": "sms"})


async def test_an_open_breaker_costs_no_attempt_and_closes_after_probes(
    house: House, provider: Down, clock: Clock
) -> None:
    running = await house.dispatch(breaker_cool_down=_COOL_DOWN, breaker_probes=5, dispatch_max_attempts=10)
    first = await house.send(*[f"first {number}" for number in range(20)])
    await _until_state(running, "scripted", _OPEN)
    assert _gauge("scripted") == 2.0
    tried = len(provider.sent)
    later = [*await house.send(*["later"] * 30), *await house.send("also later")]

    async def all_put_off() -> bool:
        ((waiting, put_off),) = await house.book.rows(
            "SELECT count(*), count(*) FILTER (WHERE owner IS NULL AND due_time > now() + interval '5 s')"
            " FROM outbox WHERE subject LIKE 'posthouse.dispatch.%%'"
        )
        return bool(put_off) and waiting == put_off

    await eventually(all_put_off)
    assert REGISTRY.get_sample_value("dispatch_postponed_total", {"channel": "sms", "by": "breaker"})
    assert len(provider.sent) == tried
    assert await house.book.value("SELECT max(attempt_count) FROM messages WHERE id = ANY(%s)", later) == 0
    # Probes find it still down: five of them, and it is left alone again.
    clock.now += _COOL_DOWN
    await _hasten(house, later[0])
    await eventually(lambda: _sent_more(provider, tried))
    await _until_state(running, "scripted", _OPEN)
    await eventually(all_put_off)
    # Five at most: what still waited for its turn in the conversation when it opened again was put off.
    assert tried < len(provider.sent) <= tried + 5
    provider.down = False
    clock.now += _COOL_DOWN
    await _until_sent(house, *first, *later)
    await _until_state(running, "scripted", _CLOSED)
    assert _gauge("scripted") == 0.0
    await house.until_outbox_is_empty()
    stories = [await house.book.story(one) for one in later]
    assert min(stories, key=len) == ["accepted", "sending", "sent"]


async def _sent_more(provider: Down, than: int) -> bool:
    return len(provider.sent) > than


async def test_an_open_breaker_leads_to_the_next(
    house: House, provider: Down, monkeypatch: pytest.MonkeyPatch
) -> None:
    second: SecondProvider = install(monkeypatch, provider)
    running = await house.dispatch(routes=BOTH, breaker_cool_down=_COOL_DOWN)
    first = await house.send(*["first"] * 20)
    await _until_state(running, "scripted", _OPEN)
    later = await house.send(*["later"] * 5)
    await house.until("sent", *first, *later)
    assert "later" not in provider.bodies
    assert second.attempts() == {"first": 20, "later": 5}
    assert await house.book.rows(
        "SELECT DISTINCT route_reason FROM dispatch_attempts WHERE message_id = ANY(%s)", later
    ) == [("position 2 of the route of sms; scripted is not taking any at the moment",)]


async def test_other_dispatchers_know_at_once_and_people_can_reset_it(house: House, provider: Down) -> None:
    heard: list[event_pb2.Event] = []
    client = await nats.connect(house.settings.nats_url)

    async def hear(message: Any) -> None:
        heard.extend(event_pb2.EventBatch.FromString(message.data).events)

    await client.subscribe("posthouse.event.provider.breaker.>", cb=hear)
    # No retry leads the other one to the same finding before it hears of it.
    options = {"breaker_cool_down": _COOL_DOWN, "dispatch_retry_base": 600.0, "dispatch_retry_max": 600.0}
    one, other = await house.dispatch(**options), await house.dispatch(**options)
    # A broker that answers has taken the subscriptions before it.
    async with steering(one) as stub, steering(other) as another:
        assert await breaker_states(stub) == await breaker_states(another) == {"scripted": _CLOSED}
        await asyncio.gather(*(running.ownership.wait_held() for running in (one, other)))
        ids = await house.send(*["first"] * 20)

        async def both(state: int) -> bool:
            return await breaker_states(stub) == await breaker_states(another) == {"scripted": state}

        async def any_open() -> bool:
            return _OPEN in {
                *(await breaker_states(stub)).values(),
                *(await breaker_states(another)).values(),
            }

        await eventually(any_open)
        await eventually(lambda: both(_OPEN))
        provider.down = False
        answer = await stub.ResetBreaker(pb.ResetBreakerRequest(provider="scripted", channel="CHANNEL_SMS"))
        assert (answer.provider.breaker_state, answer.provider.healthy) == (_CLOSED, True)
        assert answer.provider.route_position == 1
        await eventually(lambda: both(_CLOSED))

        async def told() -> bool:
            return len(heard) >= 2

        await eventually(told)
        wrong: list[tuple[dict[str, Any], grpc.StatusCode]] = [
            ({"provider": "nobody", "channel": 1}, grpc.StatusCode.NOT_FOUND),
            ({"provider": "scripted", "channel": 4}, grpc.StatusCode.NOT_FOUND),
            ({"provider": "scripted"}, grpc.StatusCode.INVALID_ARGUMENT),
            ({"channel": 1}, grpc.StatusCode.INVALID_ARGUMENT),
        ]
        for fields, code in wrong:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.ResetBreaker(pb.ResetBreakerRequest(**fields))
            assert from_rpc_error(caught.value).code == code
    assert [(event.type, event.provider, event.channel) for event in heard] == [
        ("opened", "scripted", 1),
        ("closed", "scripted", 1),
    ]
    await client.close()
    await _until_sent(house, *ids)


async def test_messages_expire_while_they_wait_for_a_breaker(house: House, provider: Down) -> None:
    running = await house.dispatch(breaker_cool_down=_COOL_DOWN)
    await house.send(*["first"] * 20)
    await _until_state(running, "scripted", _OPEN)
    tried = len(provider.sent)
    short, long = await house.send("short", "long")

    async def put_off() -> bool:
        return bool(
            await house.book.rows(
                "SELECT 1 FROM outbox"
                " WHERE due_time > now() + interval '10 s' AND %s::uuid = ANY(message_ids)",
                short,
            )
        )

    await eventually(put_off)
    await house.book.rows("UPDATE messages SET expire_time = now() WHERE id = %s", short)
    await house.book.rows("UPDATE outbox SET due_time = now() WHERE %s::uuid = ANY(message_ids)", short)
    await house.until("failed", short)
    assert await house.book.rows("SELECT message_id::text, reason FROM dead_letters") == [(short, "expired")]
    assert await house.book.story(short) == ["accepted", "failed"]
    assert await house.book.story(long) == ["accepted"]
    assert len(provider.sent) == tried


async def test_a_new_dispatcher_learns_what_is_open_and_intake_refuses_who_will_not_wait(
    house: House,
) -> None:
    one = await house.dispatch(breaker_cool_down=_COOL_DOWN)
    request = message_pb.SendMessageRequest(
        sender=OURS, recipient=CONTACT, body="urgent", fail_fast=True, request_id="once"
    )
    accepted = await house.stub.SendMessage(request)
    await house.send(*["first"] * 20)
    await _until_state(one, "scripted", _OPEN)
    other = await house.dispatch(breaker_cool_down=_COOL_DOWN)
    await _until_state(other, "scripted", _OPEN)
    assert (await house.stub.SendMessage(request)).message.id == accepted.message.id
    request.request_id = "twice"

    async def refused() -> Any:
        try:
            await house.stub.SendMessage(request)
        except grpc.aio.AioRpcError as error:
            return from_rpc_error(error)
        request.request_id += "+"
        return None

    error = await eventually(refused)
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "ROUTE_UNAVAILABLE")
    assert error.retry_after
    stored = await house.book.value("SELECT count(*) FROM messages")
    await refused()
    assert await house.book.value("SELECT count(*) FROM messages") == stored
    # Who is ready to wait is accepted all the same.
    await house.send("patient")


async def test_one_dispatcher_alone_tries_the_provider_out(house: House, provider: Down) -> None:
    # What has failed once does not come again: from when it is open, all that is sent is probes.
    options = {"breaker_cool_down": 1.0, "breaker_probes": 5, "dispatch_max_attempts": 1}
    running = [await house.dispatch(**options) for _ in range(3)]
    await asyncio.gather(*(one.ownership.wait_held() for one in running))
    heard: list[event_pb2.Event] = []
    client = await nats.connect(house.settings.nats_url)

    async def hear(message: Any) -> None:
        heard.extend(event_pb2.EventBatch.FromString(message.data).events)

    def rounds() -> int:
        return [event.type for event in heard].count("half_open")

    await client.subscribe("posthouse.event.provider.breaker.>", cb=hear)
    await house.send(*["first"] * 60)
    for one in running:
        await _until_state(one, "scripted", _OPEN)
    # The verdict of a round keeps until every dispatcher has had its chance to take part in it.
    provider.gate.clear()
    # Work for each of them, of which none waits for another.
    for number in range(60):
        await house.send("later", recipient=f"+1555987{number:04d}")

    async def told() -> bool:
        return bool(rounds())

    await eventually(told)
    begun = await house.book.value("SELECT now()")

    async def all_looked_at() -> bool:
        # Who was looked at before waits for what is left of the cool-down, and half a second at most.
        return not await house.book.value(
            "SELECT count(*) FROM outbox WHERE subject LIKE 'posthouse.dispatch.%%' AND owner IS NULL"
            " AND due_time <= %s + interval '1.6 s'",
            begun,
        )

    await eventually(all_looked_at)
    probes = provider.bodies.count("later")
    # Each round is told before its first probe: an answer of the broker comes after what it was told.
    await client.flush()
    provider.gate.set()
    await client.close()
    assert 0 < probes <= 5 * rounds()
