"""A load client for MessageService: requests serialised beforehand, a number of calls in flight.

`python -m benchmarks.grpc_load PORT SECONDS IN_FLIGHT BATCH [RATE]` prints one line of JSON. BATCH 0 stands
for SendMessage, one message a call. With a RATE of messages a second, calls are due at fixed times, and
a time counts from when its call was due.
"""

import asyncio
import itertools
import sys
import time
from collections.abc import Callable
from typing import Any

import grpc
import uvloop

from benchmarks.payloads import API_KEY, batches, singles
from benchmarks.results import Latency, Load
from posthouse.v1 import message_service_pb2 as pb

_SERVICE = "/posthouse.v1.MessageService"


def _count_one(_response: Any) -> tuple[int, int]:
    return 1, 0


def _count_batch(response: Any) -> tuple[int, int]:
    accepted = sum(result.HasField("message") for result in response.results)
    return accepted, len(response.results) - accepted


async def load(port: int, seconds: float, in_flight: int, batch: int, rate: float = 0) -> Load:
    """Send for `seconds`, wait for the last answers, and say what came of it."""
    requests = itertools.cycle(list(batches(batch) if batch else singles()))
    counter: Callable[[Any], tuple[int, int]] = _count_batch if batch else _count_one
    metadata = (("x-api-key", API_KEY),)
    latencies: list[float] = []
    counts = [0, 0]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(
            f"{_SERVICE}/{'SendMessages' if batch else 'SendMessage'}",
            request_serializer=bytes,
            response_deserializer=(pb.SendMessagesResponse if batch else pb.SendMessageResponse).FromString,
        )
        await channel.channel_ready()
        start_time, cpu, began = time.time(), time.process_time(), time.perf_counter()
        due_times = itertools.count(began, (batch or 1) / rate) if rate else None

        async def work() -> None:
            while (now := next(due_times) if due_times else time.perf_counter()) < began + seconds:
                await asyncio.sleep(max(0.0, now - time.perf_counter()))
                try:
                    accepted, refused = counter(await call(next(requests), timeout=30, metadata=metadata))
                except grpc.aio.AioRpcError:
                    accepted, refused = 0, batch or 1
                    await asyncio.sleep(0.01)
                latencies.append(time.perf_counter() - now)
                counts[0] += accepted
                counts[1] += refused

        await asyncio.gather(*(work() for _ in range(in_flight)))
        return Load(
            start_time=start_time,
            accepted=counts[0],
            refused=counts[1],
            seconds=time.perf_counter() - began,
            cpu_seconds=time.process_time() - cpu,
            latency=Latency.of(latencies),
        )


def main() -> None:
    """Run with the arguments of the command line."""
    port, seconds, in_flight, batch, rate = [*sys.argv[1:], "0"][:5]
    print(uvloop.run(load(int(port), float(seconds), int(in_flight), int(batch), float(rate))).to_json())


if __name__ == "__main__":
    main()
