"""Makes a span of every HTTP request, where requests are traced at all."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import events, send
from gateway.whole_answers import WHOLE
from services.kit.tracing import tracing

_DIRECT = frozenset({send.PATH, events.PATH})
# Asked every few seconds by whoever watches, and of no interest.
_UNTRACED = frozenset({"/health", "/ready", "/metrics"})


def traced(app: ASGIApp) -> ASGIApp:
    """Return the application, traced if this process is."""
    return app if tracing() is None else _TracedApp(app)


class _TracedApp:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, respond: Send) -> None:
        """Serve a request within its span, named by its route: paths may hold addresses."""
        found = tracing()
        if found is None or scope["type"] != "http" or scope["path"] in _UNTRACED:
            await self._app(scope, receive, respond)
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
            if name in (b"traceparent", b"tracestate")
        }
        with found.request(headers, scope["method"]) as span:

            async def note(message: Message) -> None:
                if message["type"] in ("http.response.start", WHOLE):
                    span.set_attribute("http.response.status_code", message["status"])
                await respond(message)

            await self._app(scope, receive, note)
            path = scope["path"]
            route = path if path in _DIRECT else getattr(scope.get("route"), "path", "unmatched")
            span.update_name(f"{scope['method']} {route}")
            span.set_attribute("http.route", route)
