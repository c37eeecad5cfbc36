"""Watchers under load: cut off and resumed while what serves them is killed, and thousands at a stop."""

import asyncio
import contextlib
import os
import random
import signal
import time
import uuid
from collections import Counter
from collections.abc import Sequence

from chaos.audit import audit
from chaos.drains import stop
from chaos.findings import Finding
from chaos.load import PATIENCE, Load
from chaos.watching import Watcher
from services.kit.config import Settings
from tests.e2e.stack import E2eStack, eventually

NAME = "watchers"

_VICTIMS = ("gateway", "conversation", "nats")
_OVER = ("SSE", "gRPC")
_RESUMES_PER_KILL = 5
# Connections that are opened at the same time.
_CONNECTING = 100
# What `up` gives its children beyond the grace they give themselves.
_SLACK = 2.0

_EVENTS = """
SELECT e.message_id || '.' || e.sequence
FROM message_events e JOIN messages m ON m.id = e.message_id WHERE m.sender = %(sender)s
"""


def run(
    stack: E2eStack,
    *,
    sender: str,
    draw: random.Random,
    resumes: int,
    rate: float,
    pause: float,
    idle: int,
    each: int = 2,
) -> list[Finding]:
    """Resume `each` watchers over SSE and over gRPC `resumes` times; then stop a gateway with `idle` ones."""
    stack.simulate(callback_delay_ms=100)
    # Each has a die of its own: they are threads.
    watchers = [
        Watcher(stack, sender, over=over, draw=random.Random(draw.random()), pause=pause)  # noqa: S311
        for over in _OVER
        for _ in range(each)
    ]
    killed: Counter[str] = Counter()
    try:
        eventually(
            lambda: _all(watchers, 0),
            timeout=PATIENCE,
            what="every watcher has a place to begin",
            report=stack.report,
        )
        with Load(stack, sender, rate=rate) as load:
            for number in range(1, resumes // _RESUMES_PER_KILL + 1):
                eventually(
                    lambda number=number: _all(watchers, number * _RESUMES_PER_KILL),  # type: ignore[misc]
                    timeout=PATIENCE,
                    what="every watcher has come back",
                    report=stack.report,
                )
                load.check()
                time.sleep(draw.uniform(0, pause))
                killed[_kill(stack, draw)] += 1
            stack.await_health(timeout=PATIENCE)
        found = audit(stack, load.client)
        events = {row[0] for row in stack.rows(_EVENTS, {"sender": sender})}
        # What is still missing then is counted.
        with contextlib.suppress(AssertionError):
            eventually(
                lambda: _all(watchers, 0) and all(events <= set(watcher.seen) for watcher in watchers),
                timeout=PATIENCE,
                what="every watcher has seen everything",
            )
    finally:
        for watcher in watchers:
            watcher.stop()
    told, took = asyncio.run(_stop_with(stack, idle))
    return [*found.findings(NAME), *_seen(watchers, events, killed), *_stopped(told, idle, took)]


def _kill(stack: E2eStack, draw: random.Random) -> str:
    """Kill one of those that serve watchers, and return its name."""
    name = draw.choice(_VICTIMS)
    eventually(lambda: stack.child(name) is not None, what=f"{name} runs")
    pid = stack.child(name)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    return name


def _all(watchers: Sequence[Watcher], resumes: int) -> bool:
    for watcher in watchers:
        watcher.check()
    return all(watcher.position and watcher.resumes >= resumes for watcher in watchers)


def _seen(watchers: Sequence[Watcher], events: set[str], killed: Counter[str]) -> list[Finding]:
    twice = sum(len(watcher.seen) - len(set(watcher.seen)) for watcher in watchers)
    missed = sum(len(events - set(watcher.seen)) for watcher in watchers)
    disorder = sum(_disorder(watcher.seen) for watcher in watchers)
    gaps = sum(watcher.gaps for watcher in watchers)
    names = ", ".join(f"{name} {killed[name]}" for name in _VICTIMS)
    resumed = ", ".join(f"{watcher.over} {watcher.resumes}" for watcher in watchers)
    size = f"{len(events):,} events, resumed: {resumed}; {killed.total()} SIGKILLs ({names})"
    return [
        Finding(NAME, "size of the run", "", size, kept=True),
        Finding(NAME, "events missed", "0", f"{missed}", not missed),
        Finding(NAME, "events seen twice", "0", f"{twice}", not twice),
        Finding(NAME, "events of a message out of order", "0", f"{disorder}", not disorder),
        Finding(NAME, "watchers told of a gap", "0", f"{gaps}", not gaps),
    ]


def _disorder(seen: Sequence[str]) -> int:
    """Return how many events came after a later one of their message."""
    newest: Counter[str] = Counter()
    late = 0
    for event in seen:
        message, _, number = event.rpartition(".")
        late += int(number) < newest[message]
        newest[message] = max(newest[message], int(number))
    return late


def _stopped(told: int, idle: int, took: float) -> list[Finding]:
    grace = float(Settings.model_fields["shutdown_grace"].default)
    return [
        Finding(NAME, "told to come back at a stop", f"{idle:,}", f"{told:,}", told == idle),
        Finding(
            NAME,
            f"time to stop with {idle:,} watchers",
            f"≤ {grace:g} s, {_SLACK:g} s to close",
            f"{took:.1f} s",
            took <= grace + _SLACK,
        ),
    ]


async def _stop_with(stack: E2eStack, idle: int) -> tuple[int, float]:
    """Stop the gateway while so many watch; return how many were told, and the seconds it took."""
    room = asyncio.Semaphore(_CONNECTING)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_connected(stack, room)) for _ in range(idle)]
    watching = [task.result() for task in tasks]
    stopping = asyncio.create_task(asyncio.to_thread(stop, stack, "gateway"))
    ends = await asyncio.gather(*(_end(reader, writer) for reader, writer in watching))
    told = sum(b"event: stream.reconnect" in end and b"retry: " in end for end in ends)
    return told, await stopping


async def _connected(
    stack: E2eStack, room: asyncio.Semaphore
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with room:
        reader, writer = await asyncio.open_connection("127.0.0.1", stack.http_port)
        request = f"GET /api/v1/events?conversation_id={uuid.uuid4()} HTTP/1.1\r\nHost: chaos\r\n\r\n"
        writer.write(request.encode())
        async with asyncio.timeout(PATIENCE):
            await reader.readuntil(b": connected")
        return reader, writer


async def _end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Return what the gateway says until it closes the connection."""
    try:
        async with asyncio.timeout(PATIENCE):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()
