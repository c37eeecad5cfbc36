"""Which URLs and addresses events may be posted to: 60 hostile ones open no connection."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from services.kit.guarded_http import Answer, GuardedClient
from services.kit.networks import parse_networks
from services.kit.public_targets import TargetPolicy, parse_ports

# {port} is that of a server which must never be reached, on 127.0.0.1 and on ::1.
REFUSED_AT_ONCE = [
    "http://127.0.0.1:{port}/",
    "http://127.0.0.2:{port}/",
    "http://127.1:{port}/",
    "http://127.0.1:{port}/",
    "http://2130706433:{port}/",
    "http://0x7f000001:{port}/",
    "http://0x7f.0x0.0x0.0x1:{port}/",
    "http://0x7f.1:{port}/",
    "http://017700000001:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://0177.0.0.01:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://0:{port}/",
    "http://0.0.0.0:{port}/",
    "http://[::1]:{port}/",
    "http://[::]:{port}/",
    "http://[0:0:0:0:0:0:0:1]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[::ffff:0:127.0.0.1]:{port}/",
    "http://[64:ff9b::127.0.0.1]:{port}/",
    "http://[64:ff9b::a00:1]:{port}/",
    "http://[64:ff9b:1::7f00:1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://[2001:0:7f00:1::1]:{port}/",
    "http://[fe80::1]:{port}/",
    "http://[fe80::1%25lo]:{port}/",
    "http://[fc00::1]:{port}/",
    "http://[fd00:ec2::254]:{port}/",
    "http://[fec0::1]:{port}/",
    "http://[ff02::1]:{port}/",
    "http://[2001:db8::1]:{port}/",
    "http://169.254.169.254:{port}/latest/meta-data/",
    "http://169.254.170.2:{port}/v2/credentials",
    "http://168.63.129.16:{port}/metadata",
    "http://100.100.100.200:{port}/latest/meta-data/",
    "http://192.0.0.192:{port}/opc/v1/instance/",
    "http://10.0.0.1:{port}/",
    "http://172.16.0.1:{port}/",
    "http://172.31.255.254:{port}/",
    "http://192.168.0.1:{port}/",
    "http://100.64.0.1:{port}/",
    "http://198.18.0.1:{port}/",
    "http://192.0.2.1:{port}/",
    "http://192.88.99.1:{port}/",
    "http://224.0.0.1:{port}/",
    "http://240.0.0.1:{port}/",
    "http://255.255.255.255:{port}/",
    "http://localhost:{port}/",
    "http://LOCALHOST.:{port}/",
    "http://api.localhost:{port}/",
    "http://metadata.google.internal:{port}/computeMetadata/v1/",
    "http://user:secret@127.0.0.1:{port}/",
    "http://example.com@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}\\@example.com/",
    "http://127.0.0.1:{port}#@example.com/",
    "http://①②⑦.⓪.⓪.①:{port}/",
    "http://127.0.0.1%2f:{port}/",
    "http://exa\tmple.com:{port}/",
    "gopher://127.0.0.1:{port}/_",
    "file:///etc/passwd",
    "ftp://127.0.0.1:{port}/",
    "//127.0.0.1:{port}/",
    "http:///",
    "unix:///run/docker.sock",
]
# Names that somebody else's DNS answers for.
REFUSED_ON_CONNECTING = {
    "rebound.example": ["127.0.0.1"],
    "rebound6.example": ["::1"],
    "mixed.example": ["1.1.1.1", "127.0.0.1"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "metadata.example": ["169.254.169.254"],
    "private.example": ["10.1.2.3"],
    "nat64.example": ["64:ff9b::7f00:1"],
    "scoped.example": ["fe80::1%lo"],
}


class Names(AbstractResolver):
    """A DNS whose answers are in a table, and a name that resolves otherwise the second time."""

    def __init__(self, table: dict[str, list[str]]) -> None:
        self.table = table
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, _family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        if host not in self.table:
            raise OSError(None, "unknown")
        return [
            {
                "hostname": host,
                "host": address,
                "port": port,
                "family": socket.AF_INET6 if ":" in address else socket.AF_INET,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST,
            }
            for address in self.table[host]
        ]

    async def close(self) -> None:
        pass


class Trap:
    """Listens on loopback and counts who connects; answers as an endpoint would."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await reader.readuntil(b"\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            writer.write(self.answer)
            await writer.drain()
            await reader.read()
        writer.close()


@pytest.fixture
async def trap() -> AsyncIterator[Trap]:
    trap = Trap()
    first = await asyncio.start_server(trap.serve, "127.0.0.1", 0)
    trap.port = first.sockets[0].getsockname()[1]
    servers = [first]
    with contextlib.suppress(OSError):
        servers.append(await asyncio.start_server(trap.serve, "::1", trap.port))
    yield trap
    for server in servers:
        server.close()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that sockets were opened for."""
    seen: list[str] = []
    plain = GuardedClient._open

    def note(self: GuardedClient, info: tuple[object, object, int, str, tuple[object, ...]]) -> socket.socket:
        made = plain(self, info)
        seen.append(str(info[4][0]))
        return made

    monkeypatch.setattr(GuardedClient, "_open", note)
    return seen


def test_there_are_sixty_hostile_urls() -> None:
    assert len(set(REFUSED_AT_ONCE)) + len(REFUSED_ON_CONNECTING) >= 60


async def test_hostile_urls_open_no_connection(trap: Trap, opened: list[str]) -> None:
    names = Names(REFUSED_ON_CONNECTING)
    policy = TargetPolicy(ports=parse_ports("*"))
    client = GuardedClient(policy, timeout=60, resolver=names)
    for url in REFUSED_AT_ONCE:
        assert policy.wrong_with(url.format(port=trap.port)), url
        answer = await client.post(url.format(port=trap.port), b"{}", {})
        assert (answer.status, bool(answer.error)) == (0, True), url
    for name in REFUSED_ON_CONNECTING:
        url = f"http://{name}:{trap.port}/"
        assert policy.wrong_with(url) is None
        answer = await client.post(url, b"{}", {})
        assert (answer.status, answer.error) == (0, "address_refused"), name
    await client.close()
    assert (trap.connections, opened) == (0, [])
    assert names.asked == list(REFUSED_ON_CONNECTING)


async def test_the_connection_is_checked_when_the_url_was_not(
    trap: Trap, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TargetPolicy, "wrong_with", lambda _self, _url: None)
    client = GuardedClient(TargetPolicy(ports=parse_ports("*")), timeout=60)
    for url in REFUSED_AT_ONCE:
        answer = await client.post(url.format(port=trap.port), b"{}", {})
        assert answer.status == 0, url
    await client.close()
    assert (trap.connections, opened) == (0, [])


async def test_a_name_that_changes_its_mind_is_checked_each_time(trap: Trap, opened: list[str]) -> None:
    names = Names({"fickle.example": ["127.0.0.1"]})
    allowing = TargetPolicy(parse_networks("127.0.0.1"), parse_ports("*"))
    client = GuardedClient(allowing, timeout=60, resolver=names)
    url = f"http://fickle.example:{trap.port}/"
    trap.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    assert (await client.post(url, b"{}", {})).status == 200
    names.table["fickle.example"] = ["127.0.0.2"]
    answer = await client.post(url, b"{}", {})
    assert (answer.status, answer.error) == (0, "address_refused")
    await client.close()
    assert (trap.connections, opened) == (1, ["127.0.0.1"])


async def test_redirects_are_not_followed(trap: Trap) -> None:
    trap.answer = (
        b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:%d/x\r\nContent-Length: 0\r\n"
        b"Connection: close\r\n\r\n" % trap.port
    )
    client = GuardedClient(TargetPolicy(parse_networks("127.0.0.1"), parse_ports("*")), timeout=60)
    assert (await client.post(f"http://127.0.0.1:{trap.port}/", b"{}", {})).status == 307
    await client.close()
    assert trap.connections == 1


async def test_an_answer_without_end_is_not_read(trap: Trap) -> None:
    trap.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n" + b"x" * 100_000
    client = GuardedClient(TargetPolicy(parse_networks("127.0.0.1"), parse_ports("*")), timeout=60)
    assert (await client.post(f"http://127.0.0.1:{trap.port}/", b"{}", {})).status == 200
    await client.close()


async def test_an_answer_that_stalls_is_what_its_status_says(
    trap: Trap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.kit.guarded_http._REST_SECONDS", 0.05)
    trap.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx"
    client = GuardedClient(TargetPolicy(parse_networks("127.0.0.1"), parse_ports("*")), timeout=60)
    assert (await client.post(f"http://127.0.0.1:{trap.port}/", b"{}", {})).status == 200
    await client.close()


async def _asked(times: int, pieces: tuple[bytes, ...], *, kept: bool) -> tuple[list[Answer], int]:
    """Ask a server that answers in pieces; return its answers, and how many connections that took.

    `kept`: it waits for the next request on the same one.
    """
    connections = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"{}")
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0.01)
                if not kept:
                    break
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    client = GuardedClient(TargetPolicy(parse_networks("127.0.0.1"), parse_ports("*")), timeout=60)
    answers = [await client.post(url, b"{}", {}) for _ in range(times)]
    await client.close()
    server.close()
    return answers, connections


@pytest.mark.parametrize(
    "pieces",
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok",),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", b"ok"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nok"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"no length\r\nok\r\n"),
    ],
)
async def test_an_answer_cut_short_or_garbled_is_what_its_status_says(pieces: tuple[bytes, ...]) -> None:
    answers, connections = await _asked(2, pieces, kept=False)
    assert [(one.status, one.error) for one in answers] == [(200, None)] * 2
    # What is wrong with an answer is wrong with its connection.
    assert connections == 2


async def test_an_answer_in_pieces_leaves_the_connection_for_the_next() -> None:
    pieces = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"2\r\nok\r\n", b"0\r\n\r\n"
    answers, connections = await _asked(3, pieces, kept=True)
    assert [one.status for one in answers] == [200] * 3
    assert connections == 1


async def test_an_endpoint_that_does_not_answer_is_left(trap: Trap) -> None:
    trap.answer = b""
    client = GuardedClient(TargetPolicy(parse_networks("127.0.0.1"), parse_ports("*")), timeout=0.1)
    assert (await client.post(f"http://127.0.0.1:{trap.port}/", b"{}", {})).error == "timed_out"
    await client.close()


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/events?key=1",
        "http://example.com",
        "https://8.8.8.8/",
        "https://[2606:4700:4700::1111]/",
        "https://[64:ff9b::808:808]/",
        "https://xn--bcher-kva.example:8443/",
    ],
)
def test_public_urls_pass(url: str) -> None:
    assert TargetPolicy(ports=parse_ports("80 443 8443")).wrong_with(url) is None


def test_other_ports_do_not_pass() -> None:
    policy = TargetPolicy()
    assert policy.wrong_with("http://example.com:6379/") == "must have a port that is allowed: 80, 443"
    assert policy.wrong_with("http://example.com:0/")


@pytest.mark.parametrize("text", ["", "http", "80 70000", "0", "* 80"])
def test_ports_are_checked(text: str) -> None:
    with pytest.raises(ValueError, match="ports"):
        parse_ports(text)


def test_allowed_networks_are_taken_as_they_are_written() -> None:
    policy = TargetPolicy(parse_networks("10.1.0.0/16"))
    assert policy.allows("10.1.2.3")
    assert not policy.allows("10.2.0.1")
    assert not policy.allows("::ffff:10.1.2.3")
    assert policy.wrong_with("http://10.1.2.3/") is None
