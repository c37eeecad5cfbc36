"""Bounds what a connection may send and how long it may take, before the application hears of a request.

The server underneath has no such bounds: headers could grow for ever, and clients that send a byte a minute
would hold their connections for ever (slowloris).
"""

import asyncio
import enum
from dataclasses import dataclass
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateway import problems, whole_answers
from services.kit import metrics
from services.kit.request_ids import REQUEST_ID, request_id

# A path and query; what providers put there is shorter.
_MOST_URL_BYTES: Final = 16_384
_MOST_HEADERS: Final = 128
# What is left of a body when its answer is out is thrown away, so that whoever writes before reading gets the
# answer: so much of it, and for so long. Then the connection is closed.
_MOST_REST_BYTES: Final = 16 * 1024 * 1024
_REST_SECONDS: Final = 5.0
# ": " and the end of a line.
_AROUND_HEADER: Final = 4


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Bytes that a request line and its headers may have, and seconds they and the body may each take."""

    header_bytes: int = 65_536
    header_seconds: float = 10.0
    body_seconds: float = 60.0


class _Phase(enum.Enum):
    IDLE = 0
    HEAD = 1
    BODY = 2


class BoundedConnection(HttpToolsProtocol):
    """One connection. A request that comes in one piece costs no timer."""

    def __init__(self, *args: Any, limits: ConnectionLimits, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._phase = _Phase.IDLE
        # Counts the phases, so that a timer is known to be of this one.
        self._turn = 0
        self._timed = -1
        self._timer: asyncio.TimerHandle | None = None
        # On the loop's clock, None while there is something to do. One timer looks at it when it may be time
        # to close: the server's own would be set and cancelled with every request.
        self._idle_since: float | None = self.loop.time()
        self._idle_timer: asyncio.TimerHandle | None = None
        # Bytes of this head that came in earlier pieces, of the piece that is being read, and whether the
        # head that is being read has that piece to itself.
        self._head = 0
        self._piece = 0
        self._alone = True
        # Bytes of this body that came after its answer.
        self._rest = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as its own is
        """Take a connection, which is closed when it says nothing for as long as an idle one may."""
        super().connection_made(transport)
        self._look_after(self.timeout_keep_alive)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        self._disarm()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        super().connection_lost(exc)

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None

    def on_response_complete(self) -> None:
        """Go on with what was sent ahead, or be idle from now on."""
        if self.pipeline:
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()
            self._idle_since = self.loop.time()
            if self._phase is _Phase.BODY:
                self._rest = 0
                self._arm(_REST_SECONDS)

    def data_received(self, data: bytes) -> None:
        """Read a piece, and see to it that what is unfinished after it has an end."""
        self._piece = len(data)
        self._alone = self._phase is not _Phase.BODY
        if not self._alone and self.cycle is not None and self.cycle.response_complete:
            self._rest += len(data)
            if self._rest > _MOST_REST_BYTES:
                self.transport.close()
                return
        super().data_received(data)
        phase = self._phase
        if phase is _Phase.IDLE:
            # Between requests only empty lines can come, and they have the same time as a head.
            if self._timer is not None and self._timed != self._turn:
                self._disarm()
            if self._timer is None and (self.cycle is None or self.cycle.response_complete):
                self._arm(self._limits.header_seconds)
            return
        if phase is _Phase.HEAD and self._alone:
            self._head += self._piece
            if self._head > self._limits.header_bytes:
                self._refuse(431, self._too_large())
                return
        if self._timed != self._turn:
            self._arm(self._limits.header_seconds if phase is _Phase.HEAD else self._limits.body_seconds)

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._phase = _Phase.HEAD
        self._turn += 1
        self._head = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Have the application answer, or, when it is too large, answer in its place and in its turn."""
        refusal = self._refusal()
        app = self.app
        if refusal is not None:
            # The server cannot read a URL of more than 64 KiB, not even to refuse it.
            self.url = self.url[:_MOST_URL_BYTES]
            self.app = _refusing(*refusal)
        try:
            # What fails here, as a target that is none, is refused as a head.
            super().on_headers_complete()
        finally:
            self.app = app
        self._phase = _Phase.BODY
        self._turn += 1
        if refusal is None:
            whole_answers.offer(self.cycle)

    def on_message_complete(self) -> None:
        """End a request."""
        self._phase = _Phase.IDLE
        self._turn += 1
        self._alone = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        self._refuse(400, msg)

    def _refusal(self) -> tuple[int, str] | None:
        if len(self.url) > _MOST_URL_BYTES:
            return 414, f"the URL must not have more than {_MOST_URL_BYTES} bytes"
        if len(self.headers) > _MOST_HEADERS:
            return 431, f"there must not be more than {_MOST_HEADERS} headers"
        # Most heads came in one piece that is smaller as a whole.
        if self._head + self._piece > self._limits.header_bytes:
            size = sum(len(name) + len(value) + _AROUND_HEADER for name, value in self.headers)
            if size + len(self.url) > self._limits.header_bytes:
                return 431, self._too_large()
        return None

    def _too_large(self) -> str:
        return f"URL and headers must not have more than {self._limits.header_bytes} bytes"

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._timed = self._turn
        self._timer = self.loop.call_later(seconds, self._late)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_after(self, seconds: float) -> None:
        self._idle_timer = self.loop.call_later(seconds, self._look)

    def _look(self) -> None:
        """Close the connection if it was idle for long enough, or look again when it may have been."""
        since = self._idle_since
        left = self.timeout_keep_alive - (0.0 if since is None else self.loop.time() - since)
        if left > 0:
            self._look_after(left)
        else:
            self.timeout_keep_alive_handler()

    def _late(self) -> None:
        self._timer = None
        if self._phase is _Phase.IDLE:
            if self.cycle is None or self.cycle.response_complete:
                self.transport.close()
            return
        part = "URL and headers" if self._phase is _Phase.HEAD else "the body"
        self._refuse(408, f"{part} did not come in time")

    def _refuse(self, status: int, detail: str) -> None:
        """Answer, unless another answer is under way or due before this one, and close the connection."""
        if self.transport.is_closing():
            return
        cycle = self.cycle
        if self._phase is _Phase.BODY:
            free = cycle is not None and not cycle.response_started and not self.pipeline
        else:
            free = cycle is None or cycle.response_complete
        answer = _answer(status, detail, {"path": "", "headers": ()})
        if free:
            lines = b"".join(b"%b: %b\r\n" % header for header in answer.raw_headers)
            self.transport.write(STATUS_LINE[status] + lines + b"\r\n" + bytes(answer.body))
        self.transport.close()


def _refusing(status: int, detail: str) -> ASGIApp:
    """Return an application that refuses whatever comes."""

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await _answer(status, detail, scope)(scope, receive, send)

    return refuse


def _answer(status: int, detail: str, scope: Scope) -> Response:
    metrics.HTTP_SHED.labels(str(status)).inc()
    given = next((value for name, value in scope["headers"] if name == REQUEST_ID.encode()), None)
    scope["state"] = {"request_id": request_id(given)}
    answer = problems.response(problems.from_http(HTTPException(status, detail)), scope)
    answer.headers[REQUEST_ID] = scope["state"]["request_id"]
    answer.headers["connection"] = "close"
    return answer
