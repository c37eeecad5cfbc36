"""SendGrid: e-mail over its v3 API, its Event Webhook and its Inbound Parse."""

import asyncio
import base64
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any, Final

import aiohttp
import orjson
from multidict import CIMultiDictProxy

from services.kit.config import Settings, WrongSettingError
from services.providers.base import (
    Accepted,
    NotBegun,
    OutboundMessage,
    Outcome,
    Provider,
    Rejected,
    Retryable,
    Unknown,
    WebhookContent,
    WebhookRequest,
)
from services.providers.email_message import EmailParts, UnsendableError, email_parts
from services.providers.in_order import send_in_order
from services.providers.multipart_form import is_form
from services.providers.retry_after import LONGEST, read_retry_after
from services.providers.sendgrid_inbound import parse_inbound, verify_token
from services.providers.sendgrid_webhook import (
    ATTEMPT_ARG,
    MESSAGE_ARG,
    load_public_key,
    parse_events,
    verify_signature,
)

_MAX_CONNECTIONS: Final = 64
# A server that closes idle connections sooner would meet requests with a reset: their outcome is unknown.
_KEEP_ALIVE: Final = 15.0
# Seconds of a batch that are left for the messages under way when no more are begun.
_MARGIN: Final = 5.0
_MAX_ANSWER_BYTES: Final = 16_384
_MAX_TEXT: Final = 500
_MAX_ID: Final = 255
# An X-RateLimit-Reset below this is no Unix time but a number of seconds.
_UNIX_TIMES_FROM: Final = 1_000_000_000

# SendGrid takes neither an empty subject nor a content of no characters.
_NO_SUBJECT: Final = "(no subject)"
_NO_TEXT: Final = " "

# Answers about our account, its key or the address of the API: another provider may take the message.
_PROVIDER_FAULT: Final = frozenset(
    {
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.PAYMENT_REQUIRED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.METHOD_NOT_ALLOWED,
    }
)


@dataclass(frozen=True, slots=True)
class SendGridConfig:
    """An account, and what its webhooks are known by.

    `public_key` (base64 of its DER) and `inbound_token` may be empty: then what they prove is refused.
    `timeout` is in seconds, for one message.
    """

    api_key: str = field(repr=False)
    base_url: str = "https://api.sendgrid.com"
    public_key: str = ""
    inbound_token: str = field(default="", repr=False)
    timeout: float = 25.0


class SendGridProvider(Provider):
    """Sends each message by a request of its own, those of different conversations at the same time.

    Raises ValueError when the configured public key is none.
    """

    name = "sendgrid"
    channels = frozenset({"email"})
    batch_size = 20
    send_timeout = 60.0

    def __init__(self, config: SendGridConfig) -> None:
        self._config = config
        self._url = f"{config.base_url.rstrip('/')}/v3/mail/send"
        self._public_key = load_public_key(config.public_key) if config.public_key else None
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the pool of connections."""
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_note_departure)
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._config.timeout),
            connector=aiohttp.TCPConnector(limit=_MAX_CONNECTIONS, keepalive_timeout=_KEEP_ALIVE),
            headers={"Content-Type": "application/json", "User-Agent": "posthouse"},
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[trace],
        )

    async def close(self) -> None:
        """Close the pool."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(self, messages: Sequence[OutboundMessage]) -> list[Outcome]:
        """Hand messages to SendGrid."""
        if self._session is None:
            raise RuntimeError("the provider has not been started")
        session = self._session
        last_start = time.monotonic() + self.send_timeout - self._config.timeout - _MARGIN
        return await send_in_order(
            self.name, messages, _build, lambda _, body: self._send_one(session, body, last_start)
        )

    def verify(self, request: WebhookRequest) -> bool:
        """Tell whether SendGrid made this request.

        A form is Inbound Parse and shows the token of its URL; everything else is the Event Webhook and
        carries a signature. `parse` goes by the same content type: neither is had by the other's proof.
        """
        if is_form(request):
            return verify_token(self._config.inbound_token, request)
        return self._public_key is not None and verify_signature(self._public_key, request)

    def parse(self, request: WebhookRequest) -> WebhookContent:
        """Return the receipts or the e-mail of a verified request, or raise MalformedWebhookError."""
        return parse_inbound(request) if is_form(request) else parse_events(request.body)

    async def _send_one(self, session: aiohttp.ClientSession, body: bytes, last_start: float) -> Outcome:
        if time.monotonic() > last_start:
            return NotBegun("those before it took too long")
        # Set once bytes of the request may be on their way: from then on nobody knows without an answer.
        departed = asyncio.Event()
        try:
            async with session.post(
                self._url,
                data=body,
                headers={"Authorization": f"Bearer {self._config.api_key}"},
                allow_redirects=False,
                trace_request_ctx=departed,
            ) as response:
                return await _outcome_of(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            name = "timeout" if isinstance(error, TimeoutError) else "connection_failed"
            if departed.is_set():
                return Unknown(name, f"{type(error).__name__} after the request went out")
            return Retryable(name, f"{type(error).__name__} before the request went out")


def _build(message: OutboundMessage) -> bytes | Rejected:
    try:
        return orjson.dumps(mail_of(message, email_parts(message)))
    except UnsendableError as error:
        return Rejected(error.code, str(error))


def has_credentials(settings: Settings) -> bool:
    """Tell whether SendGrid's webhooks, or one of the two, can be verified with these settings."""
    return bool(settings.sendgrid_webhook_public_key or settings.sendgrid_inbound_token)


def from_settings(settings: Settings) -> Provider:
    """Return the provider, or raise WrongSettingError naming what it misses.

    Without a route it takes webhooks only, and needs no more than what proves them.
    """
    key = settings.sendgrid_api_key.get_secret_value().strip() if settings.sendgrid_api_key else ""
    token = settings.sendgrid_inbound_token
    if not key and any("sendgrid" in names for names in settings.routing.values()):
        raise WrongSettingError("SENDGRID_API_KEY: must be set when POSTHOUSE_ROUTES uses sendgrid")
    if not (key.isascii() and key.isprintable()):
        raise WrongSettingError("SENDGRID_API_KEY: has characters that no key has")
    try:
        return SendGridProvider(
            SendGridConfig(
                api_key=key,
                base_url=settings.sendgrid_base_url,
                public_key=settings.sendgrid_webhook_public_key,
                inbound_token=token.get_secret_value() if token else "",
            )
        )
    except ValueError as error:
        raise WrongSettingError(f"SENDGRID_WEBHOOK_PUBLIC_KEY: {error}") from None


def mail_of(message: OutboundMessage, parts: EmailParts) -> dict[str, Any]:
    """Return the JSON of POST /v3/mail/send.

    The custom arguments come back in every event. `attempt` would not do for a name: deferred events have a
    field of that name, SendGrid's own count, and its fields win.
    """
    content = [
        {"type": kind, "value": value}
        for kind, value in (("text/plain", parts.text), ("text/html", parts.html))
        if value
    ]
    mail: dict[str, Any] = {
        "personalizations": [
            {
                "to": [{"email": parts.recipient}],
                "custom_args": {MESSAGE_ARG: message.id, ATTEMPT_ARG: str(message.attempt)},
            }
        ],
        "from": {"email": parts.sender},
        "subject": parts.subject or _NO_SUBJECT,
        "content": content or [{"type": "text/plain", "value": _NO_TEXT}],
        "headers": {"Message-ID": parts.message_id, "References": " ".join(parts.references)},
    }
    if parts.reply_to:
        mail["reply_to"] = {"email": parts.reply_to}
    if parts.in_reply_to:
        mail["headers"]["In-Reply-To"] = parts.in_reply_to
    if parts.files:
        mail["attachments"] = [
            {
                "content": base64.b64encode(file.content).decode(),
                # SendGrid refuses a type with parameters.
                "type": file.media_type,
                "filename": file.filename,
                "disposition": "attachment",
            }
            for file in parts.files
        ]
    return mail


async def _note_departure(
    _session: aiohttp.ClientSession,
    context: SimpleNamespace,
    _params: aiohttp.TraceRequestHeadersSentParams,
) -> None:
    context.trace_request_ctx.set()


async def _outcome_of(response: aiohttp.ClientResponse) -> Outcome:
    status = response.status
    if status < HTTPStatus.MULTIPLE_CHOICES:
        # What follows the headers cannot take the acceptance back, so it is not waited for.
        message_id = _printable(response.headers.get("X-Message-Id", ""), _MAX_ID)
        if message_id:
            return Accepted(message_id)
        return Unknown("unreadable_answer", f"HTTP {status} without X-Message-Id")
    code = f"http_{status}"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return Retryable(code, await _explanation(response), _retry_after(response.headers))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
        return Unknown(code, await _explanation(response))
    # A redirect comes from something that is not SendGrid's API: the address is misconfigured.
    fault = status in _PROVIDER_FAULT or status < HTTPStatus.BAD_REQUEST
    return Rejected(code, await _explanation(response), provider_fault=fault)


async def _explanation(response: aiohttp.ClientResponse) -> str:
    """Return what an answer says is wrong, or its status: `field: message; ...`."""
    body = b""
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
        body = await response.content.read(_MAX_ANSWER_BYTES)
    try:
        errors = orjson.loads(body)["errors"]
        texts = [
            f"{error['field']}: {error['message']}" if error.get("field") else str(error["message"])
            for error in errors
        ]
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError):
        texts = []
    return _printable("; ".join(texts), _MAX_TEXT) or f"HTTP {response.status}"


def _retry_after(headers: CIMultiDictProxy[str] | Mapping[str, str]) -> float | None:
    """Return the seconds to wait, by Retry-After or else by X-RateLimit-Reset, a Unix time."""
    waiting = read_retry_after(headers.get("Retry-After"))
    reset = headers.get("X-RateLimit-Reset", "").strip()
    if waiting is not None or not (reset.isascii() and reset.isdigit()):
        return waiting
    seconds = float(reset[:12])
    if seconds >= _UNIX_TIMES_FROM:
        seconds -= time.time()
    return min(max(seconds, 0.0), LONGEST)


def _printable(text: str, longest: int) -> str:
    return "".join(mark if mark.isprintable() else " " for mark in text[:longest]).strip()
