"""Who calls over HTTP: asked of AuthService, which checks credentials, and known for a moment."""

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.types import Scope

from gateway.identity import Metadata, credentials
from gateway.routing import API, WEBHOOKS
from gateway.rpc import call_with
from posthouse.v1 import auth_service_pb2 as pb
from services.kit.callers import Caller
from services.kit.enum_names import SCOPE
from services.kit.errors import PosthouseError, UnauthenticatedError
from services.kit.rate_limit_clients import GATEWAY_TOKEN, Clients
from services.kit.scopes import ANY, READ, check_scope

if TYPE_CHECKING:
    from posthouse.v1.auth_service_pb2_grpc import AuthServiceAsyncStub

# Seconds for which an answer is remembered. The services check every call by themselves: this is for what
# ends in the gateway, and for its limits.
_KNOWN = 5.0
_UNKNOWN = 1.0
_REMEMBERED = 10_000

# What the gateway answers by itself: path -> its name in POSTHOUSE_OPEN_ENDPOINTS, and the scope it needs
# where it is not open.
_OWN = (
    ("/health", "health", ANY),
    ("/ready", "health", ANY),
    (f"{API}/docs", "docs", ANY),
    (f"{API}/openapi.json", "docs", ANY),
    ("/metrics", "metrics", READ),
)


@dataclass(slots=True)
class _Known:
    answer: "asyncio.Task[Caller | PosthouseError]"
    # On the loop's clock.
    end_time: float


class Callers:
    """Lets requests in by their credentials. Without a stub of AuthService everyone may come in."""

    def __init__(
        self,
        auth: "AuthServiceAsyncStub | None" = None,
        *,
        open_endpoints: Collection[str] = (),
        clients: Clients | None = None,
        gateway_token: str = "",
    ) -> None:
        self._auth = auth
        self._open = frozenset(open_endpoints)
        self._clients = clients or Clients()
        # Ours, so that the service does not limit what is asked for many callers.
        self._own: Metadata = ((GATEWAY_TOKEN, gateway_token),) if gateway_token else ()
        self._known: dict[Metadata, _Known] = {}

    async def check(self, scope: Scope) -> str:
        """Return the id of who calls, "" where that is not known and need not be.

        Raises UnauthenticatedError, ForbiddenError, or UnavailableError while AuthService is away and nobody
        behind the gateway would check the credential.
        """
        path: str = scope["path"]
        if self._auth is None or path.startswith(WEBHOOKS):
            return ""
        own, needed = next(
            ((name, scope) for start, name, scope in _OWN if path == start or path.startswith(f"{start}/")),
            ("", ANY),
        )
        if own in self._open or (own and self._is_gateway(scope)):
            return ""
        given = credentials(scope["headers"])
        if not any(value for _, value in given):
            raise UnauthenticatedError("a credential is needed: X-API-Key, or Authorization: Bearer")
        answer = await self._identify(given)
        if isinstance(answer, Caller):
            check_scope(answer.scopes, needed)
            return answer.id
        if isinstance(answer, UnauthenticatedError) or own:
            raise answer.with_traceback(None)
        return ""

    async def check_scope(self, given: Metadata, needed: str) -> None:
        """Check that who has a credential may do what needs a scope, for what ends in the gateway.

        Raises as `check` does.
        """
        if self._auth is None:
            return
        answer = await self._identify(given)
        if not isinstance(answer, Caller):
            raise answer.with_traceback(None)
        check_scope(answer.scopes, needed)

    def _is_gateway(self, scope: Scope) -> bool:
        token = [(GATEWAY_TOKEN, value) for name, value in scope["headers"] if name == GATEWAY_TOKEN.encode()]
        return self._clients.is_gateway(token)

    async def _identify(self, given: Metadata) -> Caller | PosthouseError:
        known = self._known.get(given)
        if known is None or known.end_time <= time.monotonic():
            known = _Known(asyncio.create_task(self._ask(given)), time.monotonic() + _KNOWN)
            self._known.pop(given, None)
            self._forget()
            self._known[given] = known
        if known.answer.done():
            return known.answer.result()
        # A request that goes away does not take the answer from the others.
        answer = await asyncio.shield(known.answer)
        if not isinstance(answer, Caller):
            known.end_time = time.monotonic() + (_UNKNOWN if isinstance(answer, UnauthenticatedError) else 0)
        return answer

    def _forget(self) -> None:
        """Make room for one more, and let go of those that have expired: inventing some fills no memory."""
        now = time.monotonic()
        while self._known:
            oldest = next(iter(self._known))
            if len(self._known) < _REMEMBERED and self._known[oldest].end_time > now:
                break
            del self._known[oldest]

    async def _ask(self, given: Metadata) -> Caller | PosthouseError:
        assert self._auth is not None  # noqa: S101 - `check` has looked
        try:
            found = await call_with(self._auth.GetCaller, pb.GetCallerRequest(), (*given, *self._own))
        except PosthouseError as error:
            if error.reason == UnauthenticatedError.reason:
                return UnauthenticatedError(error.message)
            return error
        return Caller(found.id, frozenset(SCOPE.word(scope) for scope in found.scopes))
