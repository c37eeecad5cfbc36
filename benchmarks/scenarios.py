"""The measurements of Posthouse itself."""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import floors
from benchmarks.results import Latency, Load, Measurement
from benchmarks.stack import PROCESSES, BenchStack, run_load
from services.kit.ids import first_id_at

_BATCH, _IN_FLIGHT = 200, 8
# Calls that may be under way where a rate is asked for; what cannot be begun in time waits.
_MOST_IN_FLIGHT = 64
# Looks at memory, and the seconds for which messages come before they are waited for.
_PARTS, _TURN = 10, 5.0
_IDLE_RATE, _IDLE_CONNECTIONS = 50, 8
# Callbacks a second at which an answer is to take less than 100 ms at p95.
_REQUIRED_RATE = 500

# Of what was accepted since a time: when it was delivered, and how many seconds after its acceptance.
_TRANSIT = """
SELECT extract(epoch FROM d.create_time)::float8, extract(epoch FROM d.create_time - a.create_time)::float8
FROM message_events a JOIN message_events d ON d.message_id = a.message_id AND d.type = 'delivered'
WHERE a.type = 'accepted' AND a.create_time >= to_timestamp(%s) AND a.message_id >= %s
"""


def warm_up(stack: BenchStack) -> None:
    """Send for a moment what is not counted, so that connections stand and caches are filled."""
    run_load("benchmarks.http_load", stack.http_port, 1, _IDLE_CONNECTIONS)
    run_load("benchmarks.grpc_load", stack.grpc_port, 0.5, _IN_FLIGHT, _BATCH)
    stack.drain()


def measure_intake(stack: BenchStack, seconds: float) -> Iterator[Measurement]:
    """Accept batches while dispatch is held still; then let dispatch deliver them all."""
    with stack.held("dispatch"):
        before = stack.cpu_seconds()
        load = run_load("benchmarks.grpc_load", stack.grpc_port, seconds, _IN_FLIGHT, _BATCH)
        cpu = _cost(stack, before, load)
    yield _accepted("intake by SendMessages, 200s", floors.COPY, load, cpu)
    before, began = stack.cpu_seconds(), time.time()
    stack.drain()
    cpu = _cost(stack, before, load)
    del cpu["client"]
    took = max(moment for moment, _ in _transits(stack, load)) - began
    yield Measurement("dispatch of that backlog", load.accepted / took, Latency(), floors.COPY, cpu=cpu)


def measure_end_to_end(stack: BenchStack, seconds: float) -> Iterator[Measurement]:
    """Accept batches and deliver them at the same time; the rate is that of deliveries, to the last one."""
    measurement, load, transit = _through(
        stack, lambda: run_load("benchmarks.grpc_load", stack.grpc_port, seconds, _IN_FLIGHT, _BATCH)
    )
    assert measurement.delivered_rate is not None  # noqa: S101 - _through has filled it
    yield Measurement(
        name=f"end to end, 200s ({load.accepted / load.seconds:,.0f}/s accepted)",
        rate=measurement.delivered_rate,
        latency=transit,
        floor=floors.COPY,
        delivered_rate=measurement.delivered_rate,
        backlog=measurement.backlog,
        refused=load.refused,
        cpu=measurement.cpu,
    )


def measure_sustained(stack: BenchStack, seconds: float, rate: int) -> Iterator[Measurement]:
    """Send batches at an asked rate while dispatch is held still; then let dispatch deliver them all."""
    memory = [stack.memory()]
    with stack.held("dispatch"):
        before = stack.cpu_seconds()
        load = run_load("benchmarks.grpc_load", stack.grpc_port, seconds, _MOST_IN_FLIGHT, _BATCH, rate)
        cpu = _cost(stack, before, load)
        memory.append(stack.memory())
    name = f"intake, 200s, {rate:,}/s asked for {seconds:,.0f} s"
    row = _accepted(name, floors.COPY, load, cpu)
    row.memory = _by_process(memory)
    yield row
    began = time.time()
    before = stack.cpu_seconds()
    stack.drain()
    cpu = _cost(stack, before, load)
    del cpu["client"]
    took = max(moment for moment, _ in _transits(stack, load)) - began
    row = Measurement("dispatch of that backlog", load.accepted / took, Latency(), floors.COPY, cpu=cpu)
    row.memory = _by_process([memory[0], stack.memory()])
    yield row


def measure_memory(stack: BenchStack, messages: int) -> Iterator[Measurement]:
    """Send and deliver so many messages in ten parts, and look at the memory of each process after each."""
    memory = [stack.memory()]
    accepted, began = 0, time.perf_counter()
    while len(memory) <= _PARTS:
        while accepted < messages * len(memory) / _PARTS:
            accepted += run_load("benchmarks.grpc_load", stack.grpc_port, _TURN, _IN_FLIGHT, _BATCH).accepted
            stack.drain()
        memory.append(stack.memory())
    took = time.perf_counter() - began
    row = Measurement(f"{accepted:,} messages in {_PARTS} parts", accepted / took, Latency())
    row.delivered_rate = row.rate
    row.memory = _by_process(memory)
    yield row


def measure_rest(stack: BenchStack, seconds: float, connections: int) -> Iterator[Measurement]:
    """Send singles as fast as the answers come; then at 80 % of that rate."""
    name = f"REST singles, {connections} connections"
    measurement, _, _ = _through(
        stack, lambda: run_load("benchmarks.http_load", stack.http_port, seconds, connections)
    )
    measurement.name = name
    yield measurement
    rate = int(measurement.rate * 0.8)
    measurement, _, _ = _through(
        stack, lambda: run_load("benchmarks.http_load", stack.http_port, seconds, connections, rate)
    )
    measurement.name = f"{name}, at 80 %"
    yield measurement


def measure_callbacks(stack: BenchStack, seconds: float, connections: int) -> Iterator[Measurement]:
    """Report on messages as Twilio does, one status a request: idle, at 500 a second, as fast as it goes."""
    with stack.database() as connection, tempfile.TemporaryDirectory() as folder:
        found = connection.execute("SELECT id::text FROM messages ORDER BY id DESC LIMIT 5000").fetchall()
        ids = Path(folder) / "ids"
        ids.write_text("\n".join(message_id for (message_id,) in found))
        for rate in (_IDLE_RATE, _REQUIRED_RATE, 0):
            name = f"callbacks, {rate}/s" if rate else f"callbacks, {connections} connections"
            before = stack.cpu_seconds()
            load = run_load("benchmarks.http_load", stack.http_port, seconds, connections, rate, ids)
            yield _accepted(name, floors.HTTP, load, _cost(stack, before, load))


def measure_idle(stack: BenchStack, seconds: float) -> Iterator[Measurement]:
    """Send 50 singles a second to a stack that has nothing else to do."""
    measurement, _, _ = _through(
        stack,
        lambda: run_load("benchmarks.http_load", stack.http_port, seconds, _IDLE_CONNECTIONS, _IDLE_RATE),
    )
    measurement.name = f"REST singles, {_IDLE_RATE}/s"
    measurement.floor = None
    yield measurement


def _through(stack: BenchStack, load_with: Callable[[], Load]) -> tuple[Measurement, Load, Latency]:
    """Apply a load and wait for the last delivery; return measurement, load and transit times."""
    before = stack.cpu_seconds()
    load = load_with()
    backlog = stack.undelivered()
    stack.drain()
    cpu = _cost(stack, before, load)
    transits = _transits(stack, load)
    measurement = _accepted("", floors.HTTP, load, cpu)
    measurement.delivered_rate = load.accepted / (max(moment for moment, _ in transits) - load.start_time)
    measurement.backlog = backlog
    return measurement, load, Latency.of([seconds for _, seconds in transits])


def _transits(stack: BenchStack, load: Load) -> list[tuple[float, float]]:
    """Return when each message of a load was delivered, and after how many seconds."""
    with stack.database() as connection:
        first_id = first_id_at(datetime.fromtimestamp(load.start_time, UTC))
        return connection.execute(_TRANSIT, [load.start_time, first_id]).fetchall()


def _accepted(name: str, floor: str, load: Load, cpu: dict[str, float]) -> Measurement:
    return Measurement(name, load.accepted / load.seconds, load.latency, floor, refused=load.refused, cpu=cpu)


def _by_process(looks: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    return {name: [look[name] for look in looks] for name in PROCESSES}


def _cost(stack: BenchStack, before: dict[str, float], load: Load) -> dict[str, float]:
    """Return CPU microseconds per accepted message by process."""
    after = stack.cpu_seconds()
    messages = max(load.accepted, 1)
    cost = {name: (after[name] - before[name]) / messages * 1e6 for name in PROCESSES}
    return {**cost, "client": load.cpu_seconds / messages * 1e6}
