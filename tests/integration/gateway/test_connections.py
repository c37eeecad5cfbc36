"""What a connection may send and how slowly, seen from the other end of it."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

import gateway.__main__ as process
from gateway import connections
from services.kit.config import Settings
from tests.servers import free_ports
from tests.unit.gateway.fakes import Fakes, accept_all
from tests.unit.gateway.samples import SEND

URL = "/api/v1/messages/send"
BODY = json.dumps(SEND).encode()
# Time that does not run out during a test, and time that does.
LONG, SHORT = 600.0, 0.3


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: Any


class Peer:
    """The other end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def write(self, content: bytes) -> None:
        # Whoever is refused may be cut off in the middle.
        with contextlib.suppress(ConnectionError):
            self._writer.write(content)
            await self._writer.drain()

    async def read(self) -> Answer:
        async with asyncio.timeout(60):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode().splitlines()
            headers = {
                name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-1])
            }
            body = await self._reader.readexactly(int(headers["content-length"]))
        return Answer(int(head[0].split()[1]), headers, json.loads(body))

    async def line(self) -> bytes:
        async with asyncio.timeout(60):
            return await self._reader.readline()

    async def is_closed(self) -> bool:
        """Wait until the other side has closed the connection."""
        async with asyncio.timeout(60):
            try:
                return await self._reader.read() == b""
            except ConnectionError:
                return True

    async def is_cut_off(self, content: bytes) -> bool:
        """Send on; tell whether the other side has closed the connection."""
        await self.write(content)
        return self._writer.is_closing() or self._reader.at_eof() or self._reader.exception() is not None

    async def dribble(self, content: Callable[[int], bytes]) -> Answer:
        """Send a little now and then until there is an answer."""
        answer = asyncio.create_task(self.read())
        turn = 0
        while not answer.done():
            await self.write(content(turn))
            await asyncio.wait((answer,), timeout=0.01)
            turn += 1
        return answer.result()


@dataclass
class House:
    port: int
    fakes: Fakes

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Peer]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Peer(reader, writer)
        finally:
            writer.close()


@asynccontextmanager
async def serving(**others: Any) -> AsyncIterator[House]:
    fakes = Fakes(answers={"SendMessages": accept_all})
    services = await fakes.start()
    service = f"127.0.0.1:{fakes.port}"
    settings = Settings.model_validate(
        {
            "http_port": free_ports(1),
            "message_address": service,
            "conversation_address": service,
            "dispatch_address": service,
            "rate_limit_enabled": False,
            "drain_notice": 0,
            "http_header_timeout": LONG,
            "http_body_timeout": LONG,
            **others,
        }
    )
    stop = asyncio.Event()
    running = asyncio.create_task(process.main(settings, stop))
    house = House(settings.http_port, fakes)
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(ConnectionError):
                async with house.connected():
                    break
            await asyncio.sleep(0.05)
    yield house
    stop.set()
    await asyncio.wait_for(running, 60)
    await services.stop(None)


def head(path: str = URL, *lines: str, length: int | None = len(BODY)) -> bytes:
    sized = [] if length is None else [f"Content-Length: {length}"]
    fixed = [f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json"]
    return "\r\n".join([*fixed, *sized, *lines, "", ""]).encode()


async def test_headers_that_dribble_are_cut_off() -> None:
    async with (
        serving(http_header_timeout=SHORT) as house,
        house.connected() as slow,
        house.connected() as good,
    ):
        answer = await slow.dribble(lambda turn: b"GET /health HTTP/1.1\r\n" if turn == 0 else b"X-A: b\r\n")
        assert (answer.status, answer.body["reason"]) == (408, "TOO_SLOW")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["x-request-id"] == answer.body["request_id"]
        assert await slow.is_closed()
        await good.write(head() + BODY)
        assert (await good.read()).status == 202


@pytest.mark.parametrize("path", [URL, "/api/v1/messages/batch", "/api/v1/webhooks/simulator"])
@pytest.mark.parametrize("chunked", [False, True])
async def test_bodies_that_dribble_are_cut_off(path: str, chunked: bool) -> None:
    async with serving(http_body_timeout=SHORT) as house, house.connected() as slow:
        if chunked:
            await slow.write(head(path, "Transfer-Encoding: chunked", length=None))
            answer = await slow.dribble(lambda _: b"1\r\n \r\n")
        else:
            await slow.write(head(path, length=1_000_000))
            answer = await slow.dribble(lambda _: b" ")
        assert (answer.status, answer.body["reason"]) == (408, "TOO_SLOW")
        assert await slow.is_closed()


async def test_a_connection_that_says_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_KEEP_ALIVE", 0.2)
    async with serving(http_header_timeout=SHORT) as house:
        async with house.connected() as silent:
            assert await silent.is_closed()
        async with house.connected() as empty:
            await empty.write(b"\r\n")
            assert await empty.is_closed()


async def with_time_enough(check: Callable[[float], Awaitable[None]], *keep_alives: float) -> None:
    """Run a check with the first of the times that this machine is quick enough to send a request in."""
    for last, keep_alive in enumerate(keep_alives, start=1 - len(keep_alives)):
        try:
            await check(keep_alive)
        except (ConnectionError, asyncio.IncompleteReadError):
            if not last:
                raise
        else:
            return


async def test_a_connection_is_idle_from_its_last_answer_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(keep_alive: float) -> None:
        monkeypatch.setattr(process, "_KEEP_ALIVE", keep_alive)
        async with serving() as house, house.connected() as peer:
            for request in (head() + BODY, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"):
                await asyncio.sleep(keep_alive / 4)
                asked = time.monotonic()
                await peer.write(request)
                assert (await peer.read()).status in (200, 202)
            assert await peer.is_closed()
            assert time.monotonic() - asked >= keep_alive

    await with_time_enough(check, 1.0, 8.0, 40.0)


async def test_a_connection_is_not_idle_while_it_waits_for_its_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def check(keep_alive: float) -> None:
        monkeypatch.setattr(process, "_KEEP_ALIVE", keep_alive)
        async with serving() as house, house.connected() as peer:

            async def take_long(request: Any) -> Any:
                await asyncio.sleep(3 * keep_alive)
                return await accept_all(request)

            house.fakes.answers["SendMessages"] = take_long
            await peer.write(head() + BODY)
            assert (await peer.read()).status == 202
            assert await peer.is_closed()

    await with_time_enough(check, 0.1, 1.0, 10.0)


async def test_a_request_in_many_pieces_that_is_in_time_is_answered() -> None:
    async with serving() as house, house.connected() as peer:
        request = head() + BODY
        for start in range(0, len(request), 7):
            await peer.write(request[start : start + 7])
            await asyncio.sleep(0)
        assert (await peer.read()).status == 202
        # And the next on the same connection, and two at once.
        await peer.write(head() + BODY)
        assert (await peer.read()).status == 202
        await peer.write((head() + BODY) * 2)
        assert [(await peer.read()).status, (await peer.read()).status] == [202, 202]


@pytest.mark.parametrize(
    ("request_head", "status", "detail"),
    [
        (head(URL, *[f"X-{number}: y" for number in range(200)]), 431, "more than 128 headers"),
        (head(URL, *[f"X-{number}: {'y' * 2000}" for number in range(40)]), 431, "more than 65536 bytes"),
        (head(f"{URL}?{'x' * 20_000}"), 414, "more than 16384 bytes"),
    ],
)
async def test_heads_that_are_too_large_are_refused(request_head: bytes, status: int, detail: str) -> None:
    async with serving() as house:
        async with house.connected() as peer:
            # What came before is answered before.
            await peer.write(head() + BODY + request_head + BODY)
            assert (await peer.read()).status == 202
            answer = await peer.read()
            assert (answer.status, answer.body["reason"]) == (status, "TOO_LARGE")
            assert detail in answer.body["detail"]
            assert await peer.is_closed()
        assert len(house.fakes.seen) == 1


@pytest.mark.parametrize(
    ("request_head", "statuses"),
    [
        # In pieces it may be known as a head that is too large before it is known as a URL.
        (head(f"{URL}?{'x' * 65_600}"), {414, 431}),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", {400}),
    ],
)
async def test_a_target_that_the_server_cannot_read_is_answered(
    request_head: bytes, statuses: set[int]
) -> None:
    async with serving() as house, house.connected() as peer:
        await peer.write(request_head)
        answer = await peer.read()
        assert answer.status in statuses
        assert answer.body["reason"] == ("INVALID_FIELD" if answer.status == 400 else "TOO_LARGE")
        assert await peer.is_closed()


async def test_a_header_without_end_is_cut_off() -> None:
    async with serving() as house, house.connected() as peer:
        await peer.write(f"GET {URL} HTTP/1.1\r\nX-Long: ".encode())
        answer = await peer.dribble(lambda _: b"x" * 4096)
        assert (answer.status, answer.body["reason"]) == (431, "TOO_LARGE")
        assert await peer.is_closed()


async def test_heads_up_to_the_limit_are_taken() -> None:
    lines = [f"X-{number}: {'y' * 990}" for number in range(64)]
    assert 60_000 < len(head(URL, *lines)) < 65_536
    async with serving() as house, house.connected() as peer:
        # A large body before it in the same piece does not count.
        await peer.write(head(length=100_000) + b" " * (100_000 - len(BODY)) + BODY + head(URL, *lines))
        assert (await peer.read()).status == 202
        await peer.write(BODY)
        assert (await peer.read()).status == 202


@pytest.mark.parametrize("path", [URL, "/api/v1/messages/batch"])
async def test_a_body_without_length_has_the_same_limit(path: str) -> None:
    async with serving(http_max_body_bytes=100_000) as house, house.connected() as peer:
        await peer.write(head(path, "Transfer-Encoding: chunked", length=None))
        answer = await peer.dribble(lambda _: b"1000\r\n" + b" " * 4096 + b"\r\n")
        assert (answer.status, answer.body["reason"]) == (413, "TOO_LARGE")
    async with serving(http_max_body_bytes=100_000) as house, house.connected() as peer:
        # One that announces itself is refused before any of it is read.
        await peer.write(head(path, length=100_001))
        assert (await peer.read()).status == 413


@pytest.mark.parametrize("announced", [True, False])
async def test_the_rest_of_a_body_that_was_refused_is_not_read_for_ever(
    announced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_MOST_REST_BYTES", 1_000_000)
    async with serving(http_max_body_bytes=100_000) as house, house.connected() as peer:
        chunk = b" " * 65_536
        if announced:
            await peer.write(head(length=10**12))
        else:
            await peer.write(head(URL, "Transfer-Encoding: chunked", length=None))
            chunk = b"10000\r\n" + chunk + b"\r\n"
        answer = await peer.dribble(lambda _: chunk)
        assert (answer.status, answer.body["reason"]) == (413, "TOO_LARGE")
        async with asyncio.timeout(60):
            while not await peer.is_cut_off(chunk):
                pass


async def test_who_was_refused_and_says_no_more_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_REST_SECONDS", SHORT)
    async with serving(http_max_body_bytes=100_000) as house, house.connected() as peer:
        await peer.write(head(length=100_001))
        assert (await peer.read()).status == 413
        assert await peer.is_closed()


async def test_a_refused_body_that_ends_leaves_its_connection_to_the_next() -> None:
    async with serving(http_max_body_bytes=100_000) as house, house.connected() as peer:
        await peer.write(head(length=150_000))
        assert (await peer.read()).status == 413
        await peer.write(b" " * 150_000 + head() + BODY)
        assert (await peer.read()).status == 202


async def test_what_is_no_http_is_refused() -> None:
    async with serving() as house:
        for nonsense in (
            b"\x16\x03\x01\x02\x00\x01\r\n",
            b"GET / HTTP/1.1\r\nX : y\r\n\r\n",
            b"hello\r\n\r\n",
        ):
            async with house.connected() as peer:
                await peer.write(nonsense)
                assert (await peer.read()).status == 400
                assert await peer.is_closed()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("order-17", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("x" * 10_000, False),
        ("two words", False),
        ("é", False),
        ('"},{"level":"fatal', True),
    ],
)
async def test_request_ids_of_callers(given: str, kept: bool) -> None:
    async with serving() as house, house.connected() as peer:
        await peer.write(head(URL, f"X-Request-ID: {given}") + BODY)
        answer = await peer.read()
        assert answer.status == 202
        assert (answer.headers["x-request-id"] == given) is kept
        # The same goes along to the service.
        (call,) = house.fakes.seen
        assert call.metadata["x-request-id"] == answer.headers["x-request-id"]


async def test_a_request_id_cannot_break_lines() -> None:
    async with serving() as house, house.connected() as peer:
        await peer.write(head(URL, "X-Request-ID: a\rSet-Cookie: b=c") + BODY)
        answer = await peer.read()
        assert answer.status == 400
        assert "set-cookie" not in answer.headers
