"""Answers written whole, past the server's ASGI layer, by the routes that take most requests.

The server searches every name and value for what no header may have, takes head and body as messages of
their own, and writes each. A route that knows its headers to be good, and has the whole body, need not pay
for that.
"""

from typing import Any, Final

from starlette.types import Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

# An extension of ASGI: a message that is the whole answer, with the status, the headers and the body.
WHOLE: Final = "posthouse.http.response.whole"

_EXTENSIONS: Final[dict[str, dict[object, object]]] = {WHOLE: {}}


async def answer(
    scope: Scope, send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    """Answer a request other than HEAD, whole where the server offers that.

    The headers are known to be good, and Content-Length is not among them.
    """
    headers.append((b"content-length", b"%d" % len(body)))
    if WHOLE in scope.get("extensions", ()):
        await send({"type": WHOLE, "status": status, "headers": headers, "body": body})
    else:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def offer(cycle: RequestResponseCycle) -> None:
    """Have a request's cycle, which the server has just made, take whole answers."""
    cycle.scope["extensions"] = _EXTENSIONS
    cycle.__class__ = _Cycle


class _Cycle(RequestResponseCycle):
    async def send(self, message: Any) -> None:
        """Write a whole answer and end the request as the server's own layer would, or leave it to that."""
        if message["type"] != WHOLE:
            await super().send(message)
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if self.response_started:
            raise RuntimeError("a whole answer after another has begun")
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        lines = [b"%b: %b\r\n" % header for header in (*self.default_headers, *message["headers"])]
        end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        self.transport.write(b"".join((STATUS_LINE[message["status"]], *lines, end, message["body"])))
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
