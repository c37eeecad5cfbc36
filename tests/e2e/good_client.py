"""A client as every client should be: a key for each message, and a repeat until it is answered."""

import asyncio
import contextlib
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx2

from posthouse.v1 import message_service_pb2 as pb
from posthouse.v1 import message_service_pb2_grpc as pb_grpc

_RETRIED = frozenset({429, 500, 502, 503, 504})
# Every code but those that blame the request.
_FINAL = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
_FINAL_NUMBERS = frozenset(code.value[0] for code in _FINAL)
_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
_PAUSE = 0.1
_TIMEOUT = 15.0

# A server that was killed is back within a second or two; the default waits up to two minutes.
_RECONNECT = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000)]


@dataclass(slots=True)
class Job:
    """One call: a single message, or a batch where `bodies` has several. `over` is rest or grpc."""

    key: str
    bodies: list[str]
    over: str = "rest"


@dataclass(slots=True)
class GoodClient:
    """Sends jobs until they are answered; `accepted` has the id of each body that got its 202.

    Each body goes to one of the recipients, always the same one. Without `grpc_address` all goes over REST.
    """

    url: str
    sender: str
    recipients: Sequence[str]
    patience: float = 180.0
    grpc_address: str = ""
    accepted: dict[str, str] = field(default_factory=dict)
    in_flight: int = 0
    repeats: int = 0
    # What was repeated, by how it was refused: HTTP status, gRPC code, or "no answer".
    refusals: Counter[str] = field(default_factory=Counter)
    _http: httpx2.AsyncClient = field(init=False, repr=False)
    _stub: "pb_grpc.MessageServiceAsyncStub" = field(init=False, repr=False)

    async def send(self, jobs: Iterable[Job], *, connections: int = 16) -> None:
        """Send all jobs; raise TimeoutError when one is not answered within the client's patience."""
        waiting = iter(jobs)

        async def work() -> None:
            for job in waiting:
                await self.deliver(job)

        async with self.connected(connections), asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(work())

    @contextlib.asynccontextmanager
    async def connected(self, connections: int) -> AsyncIterator[None]:
        """Hold the connections that `deliver` needs."""
        limits = httpx2.Limits(max_connections=connections)
        async with contextlib.AsyncExitStack() as held:
            self._http = await held.enter_async_context(
                httpx2.AsyncClient(base_url=self.url, limits=limits, timeout=_TIMEOUT, trust_env=False)
            )
            if self.grpc_address:
                channel = grpc.aio.insecure_channel(self.grpc_address, options=_RECONNECT)
                self._stub = pb_grpc.MessageServiceStub(await held.enter_async_context(channel))
            yield

    async def deliver(self, job: Job) -> None:
        """Send one job until it is answered, or raise TimeoutError."""
        try_once = self._try_grpc if job.over == "grpc" and self.grpc_address else self._try_rest
        deadline = time.monotonic() + self.patience
        while True:
            self.in_flight += 1
            try:
                if await try_once(job):
                    return
            finally:
                self.in_flight -= 1
            if time.monotonic() > deadline:
                raise TimeoutError(f"{job.key} has not been answered for {self.patience:g} s")
            self.repeats += 1
            await asyncio.sleep(_PAUSE)

    async def _try_rest(self, job: Job) -> bool:
        messages = [{"from": self.sender, "to": self._recipient(body), "body": body} for body in job.bodies]
        single = len(messages) == 1
        try:
            response = await self._http.post(
                "/api/v1/messages/send" if single else "/api/v1/messages/batch",
                json=messages[0] if single else {"messages": messages},
                headers={"Idempotency-Key": job.key},
            )
        except httpx2.TransportError:
            self.refusals["no answer"] += 1
            return False
        if response.status_code in _RETRIED:
            self.refusals[str(response.status_code)] += 1
            return False
        assert response.status_code in (202, 207), response.text
        results = [{"status": 202, "message": response.json()}] if single else response.json()["results"]
        answered = [self._note_rest(body, result) for body, result in zip(job.bodies, results, strict=True)]
        return all(answered)

    def _note_rest(self, body: str, result: dict[str, Any]) -> bool:
        if result["status"] in _RETRIED:
            self.refusals[str(result["status"])] += 1
            return False
        assert result["status"] == 202, result
        self._note(body, result["message"]["id"])
        return True

    async def _try_grpc(self, job: Job) -> bool:
        requests = [
            pb.SendMessageRequest(
                sender=self.sender,
                recipient=self._recipient(body),
                body=body,
                request_id=f"{job.key}-{place}",
            )
            for place, body in enumerate(job.bodies)
        ]
        try:
            response = await self._stub.SendMessages(
                pb.SendMessagesRequest(requests=requests), timeout=_TIMEOUT
            )
        except grpc.aio.AioRpcError as error:
            if error.code() in _FINAL:
                raise
            self.refusals[error.code().name] += 1
            return False
        answered = True
        for body, result in zip(job.bodies, response.results, strict=True):
            if result.HasField("message"):
                self._note(body, result.message.id)
            else:
                assert result.error.code not in _FINAL_NUMBERS, result.error.message
                self.refusals[_NAMES[result.error.code]] += 1
                answered = False
        return answered

    def _note(self, body: str, message_id: str) -> None:
        # Whatever was answered once holds for every repeat.
        assert self.accepted.setdefault(body, message_id) == message_id

    def _recipient(self, body: str) -> str:
        return self.recipients[zlib.crc32(body.encode()) % len(self.recipients)]
