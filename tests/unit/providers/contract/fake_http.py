"""A carrier's HTTP server on loopback that can hang, reset, refuse, babble and dawdle."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Self

from tests.unit.providers.contract.adapter import Behaviour
from tests.unit.providers.contract.patience import keep_silent


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as it was on the wire. Header names are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer; Content-Length is added."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class FakeHttpCarrier:
    """Listens at `url`. `answers` gives the answer to a request for each behaviour that answers at all."""

    def __init__(self, answers: Mapping[Behaviour, Callable[[HttpRequest], HttpAnswer]]) -> None:
        self.answers = dict(answers)
        self.behaviour = Behaviour.ACCEPT
        self.requests: list[HttpRequest] = []
        self.connection_count = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    async def play(self, behaviour: Behaviour) -> None:
        """Do this with all requests from now on."""
        self.behaviour = behaviour
        if behaviour is Behaviour.REFUSE_CONNECTION:
            await self._stop()
        elif self._server is None:
            await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self.connection_count += 1
        try:
            while (request := await _read(reader)) is not None:
                self.requests.append(request)
                if not await self._respond(request, writer):
                    break
        except (ConnectionError, asyncio.CancelledError):
            pass  # a client that gave up, or a server that stops
        finally:
            self._connections.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _respond(self, request: HttpRequest, writer: asyncio.StreamWriter) -> bool:
        """Answer a request as the behaviour says; return whether the connection lives on."""
        if self.behaviour is Behaviour.HANG:
            await keep_silent()
        if self.behaviour is Behaviour.RESET:
            # Linger 0 makes the close an RST.
            writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            writer.transport.abort()
            return False
        slow = self.behaviour is Behaviour.SLOW_BODY
        answer = self.answers[Behaviour.ACCEPT if slow else self.behaviour](request)
        head = f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n"
        headers = {"Content-Length": str(len(answer.body)), **answer.headers}
        writer.write((head + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n").encode())
        writer.write(answer.body[: len(answer.body) // 2] if slow else answer.body)
        await writer.drain()
        if slow:
            await keep_silent()
        return True


async def _read(reader: asyncio.StreamReader) -> HttpRequest | None:
    """Return the next request of a connection, None when there is none."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert "transfer-encoding" not in headers, "the fake reads bodies by Content-Length"
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return HttpRequest(method, target, headers, body)
