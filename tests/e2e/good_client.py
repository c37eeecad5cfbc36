"""A client as every client should be: a key for each message, and a repeat until it is answered."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2

_RETRIED = frozenset({429, 500, 502, 503, 504})
_PAUSE = 0.1


@dataclass(slots=True)
class Job:
    """One call: a single message, or a batch where `bodies` has several."""

    key: str
    bodies: list[str]


@dataclass(slots=True)
class GoodClient:
    """Sends jobs over a number of connections; `accepted` has the id of each body that got its 202."""

    url: str
    sender: str
    recipient: str
    patience: float = 180.0
    accepted: dict[str, str] = field(default_factory=dict)
    in_flight: int = 0
    repeats: int = 0

    async def send(self, jobs: Sequence[Job], *, connections: int = 16) -> None:
        """Send all jobs; raise TimeoutError when one is not answered within the client's patience."""
        waiting = list(reversed(jobs))
        limits = httpx2.Limits(max_connections=connections)
        async with httpx2.AsyncClient(base_url=self.url, limits=limits, timeout=15, trust_env=False) as http:

            async def work() -> None:
                while waiting:
                    await self._send_one(http, waiting.pop())

            async with asyncio.TaskGroup() as group:
                for _ in range(connections):
                    group.create_task(work())

    async def _send_one(self, http: httpx2.AsyncClient, job: Job) -> None:
        deadline = time.monotonic() + self.patience
        while not await self._try(http, job):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{job.key} has not been answered for {self.patience:g} s")
            self.repeats += 1
            await asyncio.sleep(_PAUSE)

    async def _try(self, http: httpx2.AsyncClient, job: Job) -> bool:
        messages = [{"from": self.sender, "to": self.recipient, "body": body} for body in job.bodies]
        single = len(messages) == 1
        self.in_flight += 1
        try:
            response = await http.post(
                "/api/v1/messages/send" if single else "/api/v1/messages/batch",
                json=messages[0] if single else {"messages": messages},
                headers={"Idempotency-Key": job.key},
            )
        except httpx2.TransportError:
            return False
        finally:
            self.in_flight -= 1
        if response.status_code in _RETRIED:
            return False
        assert response.status_code in (202, 207), response.text
        results = [{"status": 202, "message": response.json()}] if single else response.json()["results"]
        answered = [self._note(body, result) for body, result in zip(job.bodies, results, strict=True)]
        return all(answered)

    def _note(self, body: str, result: dict[str, Any]) -> bool:
        if result["status"] in _RETRIED:
            return False
        assert result["status"] == 202, result
        # Whatever was answered once holds for every repeat.
        assert self.accepted.setdefault(body, result["message"]["id"]) == result["message"]["id"]
        return True
