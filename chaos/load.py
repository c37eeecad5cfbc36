"""A load of sends beside a scenario: a good client in a thread of its own, steered from outside."""

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from tests.e2e.good_client import GoodClient, Job
from tests.e2e.stack import E2eStack

# Seconds that anything a scenario waits for may take on a machine that is busy.
PATIENCE = 300.0

_CONNECTIONS = 16
_TICK = 0.02
_RECIPIENTS = [f"+1555{4_000_000 + number}" for number in range(1000)]

# Calls of 100 messages: singles and batches, over REST and gRPC.
_MIX = [("rest", 1)] * 10 + [("grpc", 1)] * 10 + [("rest", 40), ("grpc", 40)]


class Load:
    """Sends what `release` allows, or `rate` messages a second; leaving the block waits for all answers.

    `rate` may be changed at any time. Each load needs a sender of its own, by which it is told from others.
    """

    def __init__(self, stack: E2eStack, sender: str, *, rate: float = 0.0, batch: int = 0) -> None:
        self.sender = sender
        self.rate = rate
        self.released = 0
        self._mix = [("grpc", batch)] if batch else _MIX
        self._finishing = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="chaos-load")
        self.client = GoodClient(
            stack.url,
            sender,
            _RECIPIENTS,
            patience=PATIENCE,
            grpc_address=f"127.0.0.1:{stack.grpc_port}",
        )

    def release(self, messages: int) -> None:
        """Allow so many more messages."""
        self.released += messages

    def __enter__(self) -> Self:
        """Begin to send."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send what has been released, wait for the answers, and raise what went wrong."""
        self._finishing = True
        self._thread.join()
        if self._failure is not None and error is None:
            raise self._failure

    def check(self) -> None:
        """Raise what has ended the load, if anything has."""
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            asyncio.run(self._send())
        except BaseExceptionGroup as group:
            self._failure = group.exceptions[0]
        except BaseException as error:  # noqa: BLE001 - it is raised where the load is used
            self._failure = error

    async def _send(self) -> None:
        queue: asyncio.Queue[Job | None] = asyncio.Queue()

        async def work() -> None:
            while (job := await queue.get()) is not None:
                await self.client.deliver(job)

        async with self.client.connected(_CONNECTIONS), asyncio.TaskGroup() as group:
            for _ in range(_CONNECTIONS):
                group.create_task(work())
            await self._feed(queue)
            for _ in range(_CONNECTIONS):
                queue.put_nowait(None)

    async def _feed(self, queue: asyncio.Queue[Job | None]) -> None:
        jobs = self._jobs()
        job = next(jobs)
        paced, issued = 0.0, 0
        before = time.monotonic()
        while True:
            finishing = self._finishing
            now = time.monotonic()
            if not finishing:
                paced += self.rate * (now - before)
            before = now
            while issued + len(job.bodies) <= paced + self.released:
                issued += len(job.bodies)
                queue.put_nowait(job)
                job = next(jobs)
            if finishing:
                return
            await asyncio.sleep(_TICK)

    def _jobs(self) -> Iterator[Job]:
        bodies = (f"message {number}" for number in itertools.count())
        for number, (over, size) in enumerate(itertools.cycle(self._mix)):
            yield Job(f"{self.sender}-{number}", list(itertools.islice(bodies, size)), over)
