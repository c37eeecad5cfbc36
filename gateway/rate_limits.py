"""Limits HTTP callers per client and endpoint, and tells every caller where it stands."""

import math
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from gateway import problems
from gateway.identity import Metadata
from gateway.routing import API, WEBHOOKS
from services.kit.rate_limit_clients import GATEWAY_ADDRESS, GATEWAY_TOKEN, Client, Clients, credential
from services.kit.rate_limits import RateLimiter, Verdict
from services.kit.sliding_window import Quota

Headers = list[tuple[bytes, bytes]]

# Probes and documentation, and what providers send: they cannot slow down, and what they report is lost
# when it is refused.
_EXEMPT = frozenset({"/health", "/ready", "/metrics", f"{API}/docs", f"{API}/openapi.json"})
_EXEMPT_BELOW = (*WEBHOOKS, f"{API}/docs/assets/")
_READ = frozenset({b"authorization", b"x-api-key", b"x-forwarded-for"})
_UNMATCHED = "unmatched"
# Callers whose identity is remembered: the same ones come again and again.
_REMEMBERED = 1024


class Admission(NamedTuple):
    """What the limits say about one request."""

    # Goes onto the answer, whatever it is.
    headers: Headers
    # The answer, when the limit is used up.
    problem: problems.Problem | None = None
    # The path's template, where it was looked up.
    endpoint: str = _UNMATCHED


class _Identity(NamedTuple):
    """Who makes a request, and what the services are told of it."""

    client: Client
    # Behind trusted proxies, "" where the peer itself is the caller.
    address: str
    forwarded: Metadata


class Endpoints:
    """Finds the endpoint of a request, as the router will."""

    def __init__(self, direct: Iterable[tuple[str, str]], routes: Iterable[BaseRoute]) -> None:
        self._direct: Mapping[tuple[str, str], str] = {place: place[1] for place in direct}
        self._routes = list(routes)

    def of(self, scope: Scope) -> str:
        """Return the path's template. Whatever is no endpoint is one, so that guessing is limited too."""
        found = self._direct.get((scope["method"], scope["path"]))
        if found is not None:
            return found
        for route in self._routes:
            if route.matches(scope)[0] is Match.FULL:
                return str(getattr(route, "path", _UNMATCHED))
        return _UNMATCHED


class RateLimits:
    """The limits of the gateway. Without a limiter everything passes, and no headers are added."""

    def __init__(
        self,
        limiter: RateLimiter | None = None,
        clients: Clients | None = None,
        *,
        requests: int = 0,
        gateway_token: str = "",
    ) -> None:
        self._limiter = limiter
        self._clients = clients or Clients()
        self._requests = requests
        self._token = gateway_token
        self._identity = lru_cache(maxsize=_REMEMBERED)(self._identify)

    async def admit(
        self, scope: Scope, endpoints: Endpoints, caller_id: str = "", *, stranger: bool = False
    ) -> Admission:
        """Count a request, and note in its scope who calls and what the services are to be told of it.

        `caller_id` is that of an authenticated caller. A stranger was refused, and counts by its address.
        """
        client = self._note_identity(scope, caller_id, stranger=stranger)
        path: str = scope["path"]
        if self._limiter is None or path in _EXEMPT or path.startswith(_EXEMPT_BELOW):
            return Admission([])
        endpoint = _UNMATCHED if stranger else endpoints.of(scope)
        quota = Quota(
            "request",
            f"{client.key} {scope['method']} {endpoint}" if endpoint is not _UNMATCHED else client.key,
            max(self._requests, client.limit),
        )
        had, verdict = await self._limiter.take([quota])
        headers = _headers(verdict, self._limiter.period, b"bulk" if client.limit else b"default")
        problem = None if had else problems.from_error(self._limiter.refusal(verdict))
        return Admission(headers, problem, endpoint)

    def _note_identity(self, scope: Scope, caller_id: str, *, stranger: bool) -> Client:
        given = tuple([pair for pair in scope["headers"] if pair[0] in _READ])
        client, address, forwarded = self._identity(
            given, (scope.get("client") or ("", 0))[0], caller_id, stranger
        )
        if address:
            # From here on the caller is who the trusted proxy says.
            scope["client"] = (address, 0)
        if forwarded:
            scope.setdefault("state", {})["forwarded"] = forwarded
        return client

    def _identify(
        self, given: tuple[tuple[bytes, bytes], ...], peer: str, caller_id: str, stranger: bool
    ) -> _Identity:
        pairs = [(name.decode("ascii"), value.decode("latin-1")) for name, value in given]
        proxied = [value for name, value in pairs if name == "x-forwarded-for"]
        address = self._clients.address(peer, proxied) if proxied else peer
        client = self._clients.identify("" if stranger else credential(pairs), address, caller_id)
        forwarded = ((GATEWAY_TOKEN, self._token), (GATEWAY_ADDRESS, address)) if self._token else ()
        return _Identity(client, address if proxied else "", forwarded)


def _headers(verdict: Verdict, period: int, policy: bytes) -> Headers:
    """Return the triple that clients know, its reset in Unix time, and the IETF's pair in seconds."""
    remaining, reset = verdict.remaining, verdict.reset_seconds
    return [
        *_fixed_headers(verdict.limit, period, policy),
        (b"x-ratelimit-remaining", b"%d" % remaining),
        (b"x-ratelimit-reset", b"%d" % math.ceil(time.time() + reset)),
        (b"ratelimit", b'"%b";r=%d;t=%d' % (policy, remaining, math.ceil(reset))),
    ]


@lru_cache(maxsize=64)
def _fixed_headers(limit: int, period: int, policy: bytes) -> Headers:
    return [
        (b"x-ratelimit-limit", b"%d" % limit),
        (b"ratelimit-policy", b'"%b";q=%d;w=%d' % (policy, limit, period)),
    ]
