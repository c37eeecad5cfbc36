"""The outermost layer: request ids, limits, metrics, and a problem for whatever slipped through."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import problems
from gateway.callers import Callers
from gateway.rate_limits import Endpoints, RateLimits
from gateway.routing import WEBHOOKS
from gateway.webhooks import template_of
from gateway.whole_answers import WHOLE
from services.kit import metrics
from services.kit.errors import PosthouseError
from services.kit.logs import bind_request, get_logger, logs_debug
from services.kit.request_ids import request_id

if TYPE_CHECKING:
    from prometheus_client import Histogram

_log = get_logger(__name__)

# Messages that begin an answer.
_STARTS = frozenset({"http.response.start", WHOLE})

# Content-Encodings of a body that is as it is.
_PLAIN = frozenset({b"", b"identity"})


class BodyTooLargeError(HTTPException):
    """The body is larger than the gateway takes."""

    def __init__(self, limit: int) -> None:
        super().__init__(413, f"must not be larger than {limit} bytes")


class Front:
    """Wraps the whole application; paths in `direct` (method and path) and providers' bypass its router."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        direct: Mapping[tuple[str, str], ASGIApp],
        webhooks: ASGIApp,
        max_body_bytes: int,
        max_webhook_bytes: int,
        rate_limits: RateLimits,
        endpoints: Endpoints,
        callers: Callers | None = None,
    ) -> None:
        self._app = app
        self._direct = dict(direct)
        self._method_of = {path: method for method, path in direct}
        self._webhooks = webhooks
        self._max_body_bytes = max_body_bytes
        self._max_webhook_bytes = max_webhook_bytes
        self._rate_limits = rate_limits
        self._endpoints = endpoints
        self._callers = callers or Callers()
        self._timers: dict[tuple[str, int], Histogram] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        webhook = scope["path"].startswith(WEBHOOKS)
        if scope["method"] == "HEAD" and not webhook and scope["path"] not in self._method_of:
            # The server goes by its own scope, and leaves the body out.
            scope = {**scope, "method": "GET"}
        limit = self._max_webhook_bytes if webhook else self._max_body_bytes
        exchange = _Exchange(scope, receive, send, limit)
        bind_request(exchange.request_id)
        direct = self._webhooks if webhook else self._direct.get((scope["method"], scope["path"]))
        try:
            problem = await self._admit(scope, exchange)
            if problem is None and exchange.encoded and not webhook:
                # It would be taken for JSON that is none. Providers' are theirs to read, once verified.
                problem = problems.encoded()
            if problem is None and direct is None and scope["path"] in self._method_of:
                # The router has no such path, or takes it for another one.
                problem = problems.wrong_method(self._method_of[scope["path"]])
            if problem is None:
                exchange.check_length()
                await (direct or self._app)(scope, exchange.receive, exchange.send)
            else:
                await exchange.fail(problem)
        except HTTPException as error:
            await exchange.fail(problems.from_http(error))
        except Exception:  # noqa: BLE001 - the last line of defence of a request
            _log.exception("request_failed", request_id=exchange.request_id, path=scope["path"])
            await exchange.fail(problems.internal())
        self._count(template_of(scope["path"]) if webhook else _template(scope, direct), exchange)

    async def _admit(self, scope: Scope, exchange: "_Exchange") -> problems.Problem | None:
        """Return why a request may not come in, before anything of its body is read."""
        refusal, caller_id = None, ""
        try:
            caller_id = await self._callers.check(scope)
        except PosthouseError as error:
            refusal = problems.from_error(error)
        # Strangers are limited by their address, whatever credentials they try.
        admission = await self._rate_limits.admit(
            scope, self._endpoints, caller_id, stranger=refusal is not None
        )
        exchange.headers += admission.headers
        return admission.problem or refusal

    def _count(self, route: str, exchange: "_Exchange") -> None:
        timer = self._timers.get((route, exchange.status))
        if timer is None:
            timer = metrics.HTTP_SECONDS.labels(route, str(exchange.status))
            self._timers[route, exchange.status] = timer
        seconds = time.perf_counter() - exchange.start
        timer.observe(seconds)
        if logs_debug():
            _log.debug("request_done", route=route, status=exchange.status, seconds=round(seconds, 6))


def _template(scope: Scope, direct: ASGIApp | None) -> str:
    if direct is not None:
        return str(scope["path"])
    return getattr(scope.get("route"), "path", "unmatched")


class _Exchange:
    """One request and its answer, as they pass through."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, max_body_bytes: int) -> None:
        self.start = time.perf_counter()
        self.status = 0
        self._scope = scope
        self._receive = receive
        self._send = send
        self._max_body_bytes = max_body_bytes
        self._received = 0
        self._length = 0
        self.encoded = False
        given = None
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                given = value
            elif name == b"content-length" and value.isdigit():
                self._length = int(value[:20])
            elif name == b"content-encoding":
                self.encoded = value.strip().lower() not in _PLAIN
        self.request_id = request_id(given)
        self.headers = [(b"x-request-id", self.request_id.encode("ascii"))]
        scope.setdefault("state", {})["request_id"] = self.request_id

    def check_length(self) -> None:
        """Refuse a body that announces itself as too large, before any of it is read."""
        if self._length > self._max_body_bytes:
            raise BodyTooLargeError(self._max_body_bytes)

    async def receive(self) -> Message:
        """Pass on a piece of the body, while they add up to no more than the limit."""
        message = await self._receive()
        if message["type"] == "http.request":
            self._received += len(message.get("body", b""))
            if self._received > self._max_body_bytes:
                raise BodyTooLargeError(self._max_body_bytes)
        return message

    async def send(self, message: Message) -> None:
        """Pass on the answer, with the request's id and where its limit stands."""
        if message["type"] in _STARTS:
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self.headers]
        await self._send(message)

    async def fail(self, problem: problems.Problem) -> None:
        """Answer with a problem, unless an answer is under way already."""
        if not self.status:
            await problems.response(problem, self._scope)(self._scope, self._receive, self.send)
