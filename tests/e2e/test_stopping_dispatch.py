"""A dispatch process that is asked to stop, or given what it cannot read, in a stack as users run it."""

import asyncio
import os
import re
import signal
import uuid

import nats
import psutil
import pytest

from cli.embedded.spawn import wait_gone
from services.kit.config import Settings
from tests.e2e.stack import E2eStack, eventually

pytestmark = pytest.mark.integration

_SENDER = "+15551230777"
_SLOW_MS = 3000


def _send(stack: E2eStack, count: int) -> list[str]:
    ids = []
    for number in range(count):
        body = {"from": _SENDER, "to": f"+1555971{number:04d}", "body": f"Hello {uuid.uuid4()}"}
        response = stack.http.post("/api/v1/messages/send", json=body)
        assert response.status_code == 202, response.text
        ids.append(response.json()["id"])
    return ids


def _states(stack: E2eStack, message_ids: list[str]) -> dict[str, int]:
    query = "SELECT state, count(*) FROM messages WHERE id = ANY(%(ids)s::uuid[]) GROUP BY state"
    return dict(stack.rows(query, {"ids": message_ids}))


def _await_delivery(stack: E2eStack, message_ids: list[str]) -> None:
    eventually(
        lambda: _states(stack, message_ids) == {"delivered": len(message_ids)},
        what="all are delivered",
        report=stack.left_over,
    )
    assert set(stack.simulator.seen(message_ids).values()) == {1}


def test_sigterm_waits_for_a_slow_provider_and_leaves_the_rest_to_the_next(own_stack: E2eStack) -> None:
    pid = own_stack.child("dispatch")
    assert pid is not None
    own_stack.simulate(latency_ms=_SLOW_MS, callback_delay_ms=50)
    # More than the dispatcher has places for: the rest waits in its memory.
    slots = int(Settings.model_fields["dispatch_concurrency"].default)
    sent: list[str] = []

    def busy_and_more() -> bool:
        sent.extend(_send(own_stack, 5))
        states = _states(own_stack, sent)
        return states.get("sending", 0) >= slots and states.get("pending", 0) >= 5

    eventually(busy_and_more, what="attempts are under way and more wait")
    process = psutil.Process(pid)
    os.kill(pid, signal.SIGTERM)
    assert not wait_gone([process], timeout=60), own_stack.report()
    own_stack.await_restart("dispatch", pid)
    exits = re.findall(r"\* dispatch stopped with exit code (\d+);", own_stack.log.read_text())
    assert exits[-1] == "0"
    own_stack.simulate(callback_delay_ms=50)
    _await_delivery(own_stack, sent)
    # Nobody was left in the middle of an attempt, and nothing took two. Callbacks may overtake settlements.
    query = (
        "SELECT outcome, count(*) FROM dispatch_attempts WHERE message_id = ANY(%(ids)s::uuid[]) GROUP BY 1"
    )
    eventually(
        lambda: own_stack.rows(query, {"ids": sent}) == [("accepted", len(sent))],
        what="every message has one attempt, and that was accepted",
    )


def test_a_poison_message_is_logged_and_put_away_once_and_holds_up_nobody(own_stack: E2eStack) -> None:
    log = own_stack.data / "logs" / "dispatch.log"
    lines = log.read_text().count("envelope_unreadable")

    async def publish() -> None:
        client = await nats.connect(own_stack.state.nats_url)
        await client.jetstream().publish("posthouse.dispatch.sms", b"\xff\xff\xff\xff")
        await client.close()

    async def put_away() -> int:
        client = await nats.connect(own_stack.state.nats_url)
        subject = "posthouse.deadletter.unreadable"
        info = await client.jetstream().stream_info("DEADLETTER", subjects_filter=subject)
        await client.close()
        return (info.state.subjects or {}).get(subject, 0)

    kept = asyncio.run(put_away())
    own_stack.simulate(callback_delay_ms=50)
    before = _send(own_stack, 3)
    asyncio.run(publish())
    after = _send(own_stack, 3)
    _await_delivery(own_stack, [*before, *after])
    eventually(lambda: asyncio.run(put_away()) == kept + 1, what="it is put away")
    eventually(lambda: log.read_text().count("envelope_unreadable") == lines + 1, what="it is logged once")
