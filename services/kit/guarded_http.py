"""Posts to URLs that others chose: every connection is checked against the address it really goes to."""

import asyncio
import contextlib
import socket
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from services.kit.public_targets import TargetPolicy

# Bytes of an answer that are read, so that its connection can be used again; nobody looks at them.
_MOST_BYTES: Final = 16_384
# Seconds that an answer may take from its status to its end before it is hung up on.
_REST_SECONDS: Final = 1.0
_KEEP_ALIVE: Final = 15.0

# The first that fits says why no answer came.
_REASONS: Final = (
    (aiohttp.ClientConnectorDNSError, "name_not_resolved"),
    (aiohttp.ClientConnectorSSLError, "tls_failed"),
    (aiohttp.ClientConnectorCertificateError, "tls_failed"),
    (aiohttp.ClientConnectorError, "connection_failed"),
    (TimeoutError, "timed_out"),
    (aiohttp.InvalidURL, "address_refused"),
    (aiohttp.ClientConnectionError, "connection_lost"),
)

# (family, type, protocol, canonical name, socket address), as getaddrinfo returns it.
_AddressInfo = tuple[Any, Any, int, str, tuple[Any, ...]]


class AddressRefusedError(OSError):
    """The address is none that may be connected to."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request. `status` is 0 when no answer came; then `error` says why."""

    status: int
    seconds: float
    error: str | None = None
    retry_after: str | None = None

    @property
    def taken(self) -> bool:
        """Tell whether it is a success."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES


class _GuardedResolver(AbstractResolver):
    """Refuses names of which any address is not allowed: a mixture is how names are rebound."""

    def __init__(self, policy: TargetPolicy, resolver: AbstractResolver) -> None:
        self._policy = policy
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        if not all(self._policy.allows(each["host"]) for each in found):
            raise AddressRefusedError("the name has an address that is not allowed")
        return found

    async def close(self) -> None:
        await self._resolver.close()


class GuardedClient:
    """One pool of connections. It follows no redirects, uses no proxies and keeps no cookies."""

    def __init__(
        self, policy: TargetPolicy, *, timeout: float, resolver: AbstractResolver | None = None
    ) -> None:
        """Open no connection yet; needs a running loop. `timeout` is that of a request in seconds."""
        self._policy = policy
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=timeout),
            connector=aiohttp.TCPConnector(
                limit=0,  # whoever asks counts
                resolver=_GuardedResolver(policy, resolver or aiohttp.ThreadedResolver()),
                use_dns_cache=False,
                keepalive_timeout=_KEEP_ALIVE,
                socket_factory=self._open,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> Answer:
        """Post once, and return what came of it; nothing is raised but cancellation."""
        start = time.perf_counter()
        wrong = self._policy.wrong_with(url)
        if wrong:
            return Answer(0, 0.0, f"the URL {wrong}")
        try:
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                await _read_rest(response)
                return Answer(
                    response.status,
                    time.perf_counter() - start,
                    retry_after=response.headers.get("Retry-After"),
                )
        except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
            return Answer(0, time.perf_counter() - start, _reason(error))

    def _open(self, info: _AddressInfo) -> socket.socket:
        """Open the socket of a connection, the last place before anything leaves this machine."""
        family, kind, protocol, _, address = info
        if not self._policy.allows(str(address[0])):
            raise AddressRefusedError("the address is not allowed")
        return socket.socket(family, kind, protocol)


async def _read_rest(response: aiohttp.ClientResponse) -> None:
    """Read an answer to its end, in however many pieces it comes, and hang up on one that is long or slow.

    Its status has come: what is wrong with the rest, cut short or garbled, takes nothing back.
    """
    left, whole = _MOST_BYTES, False
    with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
        async with asyncio.timeout(_REST_SECONDS):
            while left > 0 and (piece := await response.content.read(left)):
                left -= len(piece)
            whole = response.content.at_eof()
    if not whole:
        response.close()


def _reason(error: BaseException) -> str:
    """Return why no answer came, without what the other side may have put into it."""
    if isinstance(getattr(error, "os_error", None), AddressRefusedError):
        return "address_refused"
    return next((word for kind, word in _REASONS if isinstance(error, kind)), "answer_not_understood")
