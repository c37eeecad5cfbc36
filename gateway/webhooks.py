"""The routes that providers call, plain ASGI: requests go to MessageService as they came, many in a call."""

import asyncio
import re
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from gateway import problems
from gateway.bodies import read_body
from gateway.identity import signed_caller
from gateway.joining import Webhooks
from gateway.routing import API
from gateway.rpc import Backends, call_with
from gateway.whole_answers import answer
from posthouse.v1 import message_service_pb2 as pb
from services.kit.errors import InvalidRequestError, PosthouseError, UnavailableError

_ANY = f"{API}/webhooks/"
_TEMPLATE = f"{_ANY}{{provider}}"
_TWILIO = frozenset({"/webhook/twilio/sms", "/webhook/twilio/status"})

# Bytes of a body from which on few are passed on at a time, each in a call of its own, and how many; and how
# many of the largest may be read meanwhile. Anybody may send one, and as slowly as they like: who has sent
# little takes no room from the others.
_LARGE = 1_048_576
_MOST_LARGE = 4
_MOST_READ = 8
# Seconds their transaction may take.
_LARGE_TIMEOUT = 60.0

_OK = 200

# RFC 9110, 7.2, with RFC 3986, 3.2.2: a name or an address, in which nothing ends the authority of a URL.
_HOST: Final = re.compile(
    rb"(?:[A-Za-z0-9._~%!$&'()*+,;=-]+|\[[A-Za-z0-9._~!$&'()*+,;=:-]+\])(?::[0-9]{0,5})?"
)


class WebhookRoute:
    """Takes webhooks in. The body is never parsed here: signatures cover its bytes."""

    def __init__(self, backends: Backends, webhooks: Webhooks, *, max_body_bytes: int) -> None:
        self._message = backends.message
        self._webhooks = webhooks
        # Bodies that are several times in memory while they are passed on.
        self._large = asyncio.Semaphore(_MOST_LARGE)
        # Bytes of large bodies that may be in memory, and that are.
        self._room = _MOST_READ * max_body_bytes
        self._taken = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request to a path of providers'; raises HTTPException for one that is none."""
        provider = _provider(scope["path"])
        if not provider:
            raise HTTPException(404)
        if scope["method"] != "POST":
            raise HTTPException(405, headers={"Allow": "POST"})
        try:
            url = called_url(scope)
            if _is_small(scope):
                response = await self._join(scope, receive, provider, url)
            else:
                response = await self._pass_on(scope, receive, provider, url)
        except PosthouseError as error:
            await problems.response(problems.from_error(error), scope)(scope, receive, send)
            return
        if response is not None:
            await _answer(response, scope, send)

    async def _join(
        self, scope: Scope, receive: Receive, provider: str, url: str
    ) -> pb.IngestWebhookResponse | None:
        body = await read_body(receive)
        if body is None:
            return None
        request = _request(scope, provider, url, body)
        return await self._webhooks.send(
            request,
            size=request.ByteSize(),
            caller=signed_caller(scope),
            request_id=scope["state"]["request_id"],
        )

    async def _pass_on(
        self, scope: Scope, receive: Receive, provider: str, url: str
    ) -> pb.IngestWebhookResponse | None:
        parts: list[bytes] = []
        try:
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return None
                part: bytes = message.get("body", b"")
                if self._taken + len(part) > self._room:
                    raise UnavailableError("too many large webhooks are under way", retry_after=5)
                self._taken += len(part)
                parts.append(part)
                if not message.get("more_body"):
                    break
            metadata = (("x-request-id", scope["state"]["request_id"]), *signed_caller(scope))
            async with self._large:
                request = _request(scope, provider, url, b"".join(parts))
                return await call_with(self._message.IngestWebhook, request, metadata, seconds=_LARGE_TIMEOUT)
        finally:
            self._taken -= sum(map(len, parts))


def template_of(path: str) -> str:
    """Return the route that a path of providers' belongs to, "unmatched" when there is none."""
    if path in _TWILIO:
        return path
    return _TEMPLATE if _provider(path) else "unmatched"


def called_url(scope: Scope) -> str:
    """Return the URL as the client called it: its own host name, path and query, byte for byte.

    Raises InvalidRequestError for a Host that is none: a slash in it would begin another path, and that is
    what providers sign.
    """
    hosts = [value for name, value in scope["headers"] if name == b"host" and value]
    if len(hosts) > 1 or any(_HOST.fullmatch(host) is None for host in hosts):
        raise InvalidRequestError.field("Host", "must be a host name, and a port at most, once")
    if hosts:
        host = hosts[0].decode("ascii")
    else:
        name, port = scope.get("server") or ("localhost", None)
        host = f"{name}:{port}" if port else "localhost"  # without a port it is the path of a socket
    path = scope.get("raw_path") or scope["path"].encode()
    query = scope["query_string"]
    tail = b"?" + query if query else b""
    return f"{scope['scheme']}://{host}{(path + tail).decode('latin-1')}"


def _provider(path: str) -> str:
    """Return whose webhook a path is, "" when it is nobody's."""
    if path in _TWILIO:
        return "twilio"
    name = path.removeprefix(_ANY)
    return "" if name == path or "/" in name else name


def _is_small(scope: Scope) -> bool:
    """Tell whether a body announces that it is small; one that says nothing is not."""
    length = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    return length.isdigit() and int(length[:20]) <= _LARGE


def _request(scope: Scope, provider: str, url: str, body: bytes) -> pb.IngestWebhookRequest:
    client = scope.get("client")
    return pb.IngestWebhookRequest(
        provider=provider,
        method=scope["method"],
        url=url,
        headers=[
            # Half the time of a Header made here and copied there.
            {"name": name.decode("latin-1"), "value": value.decode("latin-1")}
            for name, value in scope["headers"]
        ],
        body=body,
        remote_address=client[0] if client else "",
    )


async def _answer(response: pb.IngestWebhookResponse, scope: Scope, send: Send) -> None:
    kind = response.content_type
    headers = [(b"content-type", kind.encode("latin-1"))] if kind else []
    await answer(scope, send, response.http_status or _OK, headers, response.body)


def _operation(summary: str, operation_id: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "tags": ["webhooks"],
        "summary": summary,
        "description": "Verify, store and apply what a provider reports; a repeat changes nothing.",
        "operationId": operation_id,
        "parameters": parameters,
        "responses": {
            "200": {"description": "Committed, or known already. The body is what the provider expects."}
        },
    }


# The routes are not FastAPI's, so their documentation is written by hand.
OPERATIONS: dict[str, dict[str, Any]] = {
    _TEMPLATE: {
        "post": _operation(
            "Take a provider's webhook",
            "ingest_webhook",
            [
                {
                    "name": "provider",
                    "in": "path",
                    "required": True,
                    "schema": {"type": "string", "examples": ["simulator"]},
                }
            ],
        )
    },
    **{
        path: {"post": _operation("Take a webhook of Twilio", path.strip("/").replace("/", "_"), [])}
        for path in sorted(_TWILIO)
    },
}
