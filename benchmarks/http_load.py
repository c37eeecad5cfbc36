"""A load client over HTTP: keep-alive connections, requests built beforehand.

`python -m benchmarks.http_load PORT SECONDS CONNECTIONS [RATE [FILE]]` prints one line of JSON. The
requests are single sends, or status callbacks of the messages whose ids are in the file. Without a rate, or
at 0, every connection sends as soon as it is answered. With one, requests are due at fixed times, and a
time counts from when its request was due, so that a slow server cannot hide behind a patient client.
"""

import asyncio
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import uvloop

from benchmarks.payloads import callback_requests, http_requests
from benchmarks.results import Latency, Load

_ACCEPTED = b"HTTP/1.1 2"
# Arguments before that of the file, and callbacks built for each second.
_WITH_FILE = 5
_MOST_CALLBACKS = 5000
_LENGTH = b"content-length: "
_END = b"\r\n\r\n"


class _Run:
    """What all connections share."""

    def __init__(self, requests: Sequence[bytes], *, closed_loop: bool) -> None:
        self.requests = requests
        self.closed_loop = closed_loop
        self.running = True
        self.next = 0
        self.latencies: list[float] = []
        self.refused = 0
        # Open loop: connections with nothing to do, and due times nobody has begun.
        self.idle: deque[_Connection] = deque()
        self.overdue: deque[float] = deque()
        self.outstanding = 0
        self.done = asyncio.Event()

    def finish(self) -> None:
        """Send nothing new; `done` is set once everything is answered."""
        self.running = False
        if not self.outstanding:
            self.done.set()


class _Connection(asyncio.Protocol):
    def __init__(self, run: _Run) -> None:
        self._run = run
        self._transport: asyncio.WriteTransport
        self._began = 0.0
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)
        self._run.idle.append(self)

    def send(self, due: float) -> None:
        run = self._run
        run.next += 1
        run.outstanding += 1
        self._began = due
        self._transport.write(run.requests[run.next % len(run.requests)])

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(_END)
        if end < 0:
            return
        start = self._received.find(_LENGTH, 0, end) + len(_LENGTH)
        length = int(self._received[start : self._received.find(b"\r", start)])
        if len(self._received) >= end + len(_END) + length:
            accepted = self._received.startswith(_ACCEPTED)
            self._received = b""
            self._answered(accepted)

    def connection_lost(self, _error: Exception | None) -> None:
        if self._began:
            self._run.refused += 1
            self._settle()

    def _answered(self, accepted: bool) -> None:
        run, now = self._run, time.perf_counter()
        if accepted:
            run.latencies.append(now - self._began)
        else:
            run.refused += 1
        self._settle()
        if not run.running:
            return
        if run.closed_loop:
            self.send(now)
        elif run.overdue:
            self.send(run.overdue.popleft())
        else:
            run.idle.append(self)

    def _settle(self) -> None:
        self._began = 0.0
        self._run.outstanding -= 1
        if not self._run.running and not self._run.outstanding:
            self._run.done.set()


async def load(port: int, requests: Sequence[bytes], seconds: float, connections: int, rate: float) -> Load:
    """Send for `seconds`, wait for the last answers, and say what came of it."""
    run = _Run(requests, closed_loop=not rate)
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: _Connection(run), "127.0.0.1", port)
    start_time, cpu, began = time.time(), time.process_time(), time.perf_counter()
    if rate:
        await _keep_pace(run, rate, began, seconds)
    else:
        while run.idle:
            run.idle.popleft().send(time.perf_counter())
        await asyncio.sleep(seconds)
    run.finish()
    # What was due and never begun is as good as refused.
    run.refused += len(run.overdue)
    await asyncio.wait_for(run.done.wait(), 30)
    return Load(
        start_time=start_time,
        accepted=len(run.latencies),
        refused=run.refused,
        seconds=time.perf_counter() - began,
        cpu_seconds=time.process_time() - cpu,
        latency=Latency.of(run.latencies),
    )


async def _keep_pace(run: _Run, rate: float, began: float, seconds: float) -> None:
    for number in range(int(rate * seconds)):
        due = began + number / rate
        wait = due - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        if run.idle:
            run.idle.popleft().send(due)
        else:
            run.overdue.append(due)


def main() -> None:
    """Run with the arguments of the command line."""
    port, seconds, connections, rate = [float(argument) for argument in [*sys.argv[1:5], "0"][:4]]
    if len(sys.argv) > _WITH_FILE:
        ids = Path(sys.argv[_WITH_FILE]).read_text().split()
        requests = list(callback_requests(int(port), ids, int(_MOST_CALLBACKS * seconds)))
    else:
        requests = list(http_requests(int(port)))
    print(uvloop.run(load(int(port), requests, seconds, int(connections), rate)).to_json())


if __name__ == "__main__":
    main()
