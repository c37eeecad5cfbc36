"""Builds the HTTP application from what it is given; nothing is looked up, nothing happens on import."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp

from gateway import events, openapi, problems, send, webhooks
from gateway.callers import Callers
from gateway.conversations import ConversationRoutes
from gateway.dispatch import DispatchRoutes
from gateway.erasures import ErasureRoutes
from gateway.events import EventRoute
from gateway.front import Front
from gateway.health import HealthRoutes
from gateway.joining import Sends, Webhooks
from gateway.messages import MessageRoutes
from gateway.opt_outs import OptOutRoutes
from gateway.rate_limits import Endpoints, RateLimits
from gateway.requests import check_content_type
from gateway.rpc import Backends
from gateway.sms import SmsRoutes
from gateway.subscriptions import SubscriptionRoutes
from gateway.webhooks import WebhookRoute
from services.kit.errors import PosthouseError
from services.kit.health import HealthMonitor

_DESCRIPTION = (
    "One API for SMS, MMS and e-mail, two-way conversations, and delivery that can be trusted. "
    "A 2xx means committed. Errors are problems (RFC 9457) that name the fields at fault."
)


@dataclass(frozen=True, slots=True)
class Wiring:
    """What the application is made of."""

    backends: Backends
    coalescer: Sends
    webhooks: Webhooks
    events: EventRoute
    monitor: HealthMonitor
    draining: asyncio.Event
    version: str
    max_body_bytes: int
    max_webhook_bytes: int
    ready_follows: frozenset[str] = frozenset({"postgresql", "nats", "outbox"})
    phone_number: str | None = None
    rate_limits: RateLimits = field(default_factory=RateLimits)
    callers: Callers = field(default_factory=Callers)


def build_app(wiring: Wiring) -> ASGIApp:
    """Return the ASGI application."""
    app = FastAPI(
        title="Posthouse",
        version=wiring.version,
        description=_DESCRIPTION,
        openapi_url=openapi.DOCUMENT,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    found: list[BaseRoute] = []
    for routes in (
        MessageRoutes(wiring.backends),
        ConversationRoutes(wiring.backends),
        DispatchRoutes(wiring.backends),
        OptOutRoutes(wiring.backends),
        ErasureRoutes(wiring.backends),
        SubscriptionRoutes(wiring.backends),
        SmsRoutes(wiring.backends, wiring.coalescer, wiring.phone_number),
        HealthRoutes(wiring.monitor, wiring.draining, wiring.version, wiring.ready_follows),
    ):
        router = routes.router()
        app.include_router(router)
        found += router.routes
    by_hand = {
        send.PATH: {"post": send.OPERATION},
        events.PATH: {"get": events.OPERATION},
        **webhooks.OPERATIONS,
    }
    openapi.install(app, by_hand)
    app.add_exception_handler(PosthouseError, _on_typed)
    app.add_exception_handler(RequestValidationError, _on_shape)
    direct: dict[tuple[str, str], ASGIApp] = {
        ("POST", send.PATH): send.SendRoute(wiring.coalescer),
        ("GET", events.PATH): wiring.events,
    }
    # Beside the routers: the OpenAPI document and its page.
    own = [route for route in app.routes if isinstance(route, Route)]
    app.add_exception_handler(HTTPException, _answering_http([*found, *own]))
    app.add_exception_handler(Exception, _on_fault)
    return Front(
        app,
        direct=direct,
        webhooks=WebhookRoute(wiring.backends, wiring.webhooks, max_body_bytes=wiring.max_webhook_bytes),
        max_body_bytes=wiring.max_body_bytes,
        max_webhook_bytes=wiring.max_webhook_bytes,
        rate_limits=wiring.rate_limits,
        endpoints=Endpoints(direct, found),
        callers=wiring.callers,
    )


async def _on_typed(request: Request, error: Exception) -> Response:
    assert isinstance(error, PosthouseError)  # noqa: S101 - registered for this type
    return problems.response(problems.from_error(error), request.scope)


async def _on_shape(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this type
    content_type = request.headers.get("content-type")
    try:
        # A body that is no JSON at all reached the check as bytes: say that, rather than "no object".
        check_content_type(content_type.encode("latin-1") if content_type and _of_body(error) else None)
    except HTTPException as refusal:
        return problems.response(problems.from_http(refusal), request.scope)
    # FastAPI puts the part of the request, such as "body", before pydantic's own location.
    found = [{**each, "loc": each["loc"][1:]} for each in error.errors()]
    return problems.response(problems.from_validation(found), request.scope)


def _of_body(error: RequestValidationError) -> bool:
    return any(found["loc"] == ("body",) for found in error.errors())


def _answering_http(routes: Sequence[BaseRoute]) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            # The router names the methods of the first route alone that has the path.
            fitting = [route for route in routes if route.matches(request.scope)[0] is Match.PARTIAL]
            methods = {method for route in fitting for method in getattr(route, "methods", None) or ()}
            if "GET" in methods:
                methods.add("HEAD")
            error.headers = {"Allow": ", ".join(sorted(methods))}
        return problems.response(problems.from_http(error), request.scope)

    return answer


async def _on_fault(request: Request, _error: Exception) -> Response:
    return problems.response(problems.internal(), request.scope)
