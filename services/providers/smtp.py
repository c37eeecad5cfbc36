"""SMTP: e-mail through any mail server. It has no news of its own: accepted is all it can say."""

import asyncio
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import aiosmtplib

from services.kit.config import Settings, WrongSettingError
from services.providers.base import (
    Accepted,
    MalformedWebhookError,
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
from services.providers.email_message import EmailParts, UnsendableError, build_email, email_parts
from services.providers.in_order import send_in_order
from services.providers.shared_semaphore import SharedSemaphore
from services.providers.smtp_config import SmtpConfig, parse_smtp_url
from services.providers.smtp_pool import Connection, SmtpPool

_MAX_TEXT: Final = 500
_MAX_ID: Final = 255
_RESET_SECONDS: Final = 5.0
_NOT_NOW, _NEVER, _NO_REPLY = 400, 500, 600
# Seconds of a batch that are left for the messages under way when no more are begun.
_MARGIN: Final = 5.0

_ENHANCED: Final = re.compile(r"\s*([245]\.\d{1,3}\.\d{1,3})\b")
# How servers say under which id they have queued a message: Postfix and most, Exim, Exchange, sendmail, SES.
_QUEUE_IDS: Final = (
    re.compile(r"queued (?:mail for delivery )?as:? <?([^\s<>();,]+)", re.IGNORECASE),
    re.compile(r"\bid=<?([^\s<>();,]+)", re.IGNORECASE),
    re.compile(r"\bInternalId=(\d+)"),
    re.compile(r"^(?:2\.\d+\.\d+ )?([A-Za-z0-9]{8,}) Message accepted", re.IGNORECASE),
    re.compile(r"^(?:2\.\d+\.\d+ )?Ok:? ([A-Za-z0-9][A-Za-z0-9-]{15,})$", re.IGNORECASE),
)

# Replies about our login (RFC 4954), whatever they answer.
_LOGIN_CODES: Final = frozenset({530, 534, 535, 538})
_LOGIN_ENHANCED: Final = frozenset({"5.7.0", "5.7.3", "5.7.8", "5.7.9", "5.7.11", "5.7.13", "5.7.57"})

_FAILURES: Final = (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError)


class SmtpProvider(Provider):
    """Hands each message over in a transaction of its own, on a few connections at the same time."""

    name = "smtp"
    channels = frozenset({"email"})
    batch_size = 20
    send_timeout = 90.0

    def __init__(self, config: SmtpConfig) -> None:
        self._config = config
        self._pool = SmtpPool(config)
        self.semaphore: SharedSemaphore = SharedSemaphore(config.connections)

    async def close(self) -> None:
        """Say goodbye to the server."""
        await self._pool.close()

    async def send(self, messages: Sequence[OutboundMessage]) -> list[Outcome]:
        """Hand messages to the server; those it is too slow for are not begun."""
        last_start = time.monotonic() + self.send_timeout - self._config.message_timeout - _MARGIN
        return await send_in_order(
            self.name, messages, _build, lambda _, mail: self._send_one(*mail, last_start)
        )

    def verify(self, request: WebhookRequest) -> bool:
        """Refuse: SMTP has no webhooks."""
        _ = request
        return False

    def parse(self, request: WebhookRequest) -> WebhookContent:
        """Raise MalformedWebhookError: SMTP has no webhooks."""
        _ = request
        raise MalformedWebhookError("smtp has no webhooks")

    async def _send_one(self, parts: EmailParts, content: bytes, last_start: float) -> Outcome:
        async with self.semaphore:
            if time.monotonic() > last_start:
                return NotBegun("the server is too slow for as many messages at once")
            transaction = _Transaction(self._pool, parts, content)
            try:
                async with asyncio.timeout(self._config.message_timeout):
                    return await transaction.run()
            except TimeoutError:
                return transaction.cut_short()


def _build(message: OutboundMessage) -> tuple[EmailParts, bytes] | Rejected:
    try:
        parts = email_parts(message)
        return parts, build_email(parts, now=datetime.now(UTC))
    except UnsendableError as error:
        return Rejected(error.code, str(error))


def from_settings(settings: Settings) -> Provider:
    """Return the provider, or raise WrongSettingError naming what is wrong."""
    if settings.smtp_url is None:
        raise WrongSettingError("SMTP_URL: must be set when POSTHOUSE_ROUTES uses smtp")
    try:
        config = parse_smtp_url(
            settings.smtp_url.get_secret_value(),
            connections=settings.smtp_connections,
            allow_plaintext=settings.smtp_allow_plaintext,
        )
    except ValueError as error:
        raise WrongSettingError(f"SMTP_URL: {error}") from None
    return SmtpProvider(config)


class _Transaction:
    """One message's way into the server. `outcome` is set once nothing can change it any more."""

    def __init__(self, pool: SmtpPool, parts: EmailParts, content: bytes) -> None:
        self.outcome: Outcome | None = None
        self._pool = pool
        self._parts = parts
        self._content = content
        self._connected = False
        # From here on the server may have all of it, whether or not it says so.
        self._content_sent = False

    async def run(self) -> Outcome:
        """Send the message; a connection that has died while it was idle is replaced once."""
        outcome, died_idle = await self._try(fresh=False)
        if died_idle:
            outcome, _ = await self._try(fresh=True)
        return outcome

    def cut_short(self) -> Outcome:
        """Return what it means that there was no time left."""
        return self.outcome or self._failed("timeout", "no answer in time")

    async def _try(self, *, fresh: bool) -> tuple[Outcome, bool]:
        """Send the message and return what came of it, and whether an idle connection turned out dead."""
        self._connected = False
        try:
            connection = await self._pool.take(fresh=fresh)
        except _FAILURES as error:
            return self._outcome_of(error), False
        self._connected = True
        client, reused = connection.client, connection.used > 0
        try:
            outcome = await self._talk(connection)
        except _FAILURES as error:
            outcome = self._outcome_of(error)
            if not _is_reply(error):
                client.close()
        except BaseException:
            client.close()
            raise
        if reused and not client.is_connected and not self._content_sent:
            return outcome, True
        self.outcome = outcome
        await self._settle(connection)
        return outcome, False

    async def _talk(self, connection: Connection) -> Outcome:
        client = connection.client
        connection.used += 1
        options, encoding = [], "ascii"
        if self._parts.needs_utf8:
            if client.last_ehlo_response is None:
                await client.ehlo()
            if not client.supports_extension("smtputf8"):
                return Rejected("smtputf8", "the server takes no addresses beyond ASCII", provider_fault=True)
            options, encoding = ["SMTPUTF8"], "utf-8"
        await client.mail(self._parts.sender, options=options, encoding=encoding)
        await client.rcpt(self._parts.recipient, encoding=encoding)
        self._content_sent = True
        reply = await client.data(self._content)
        return Accepted(queue_id(reply.message))

    async def _settle(self, connection: Connection) -> None:
        """Keep a connection that is in a known state, and end any other."""
        client = connection.client
        if client.is_connected and not isinstance(self.outcome, Accepted):
            try:
                await client.rset(timeout=_RESET_SECONDS)
            except _FAILURES:
                client.close()
        if client.is_connected:
            await self._pool.give_back(connection)

    def _outcome_of(self, error: Exception) -> Outcome:
        if isinstance(error, aiosmtplib.SMTPResponseException) and _is_reply(error):
            return self._refused(error.code, error.message)
        if isinstance(error, aiosmtplib.SMTPResponseException):
            return self._failed("unreadable_answer", "the reply cannot be understood")
        kind = "timeout" if isinstance(error, TimeoutError) else "connection_failed"
        return self._failed(kind, _readable(str(error)) or type(error).__name__)

    def _failed(self, code: str, text: str) -> Outcome:
        """Return what a failure without a reply means."""
        return Unknown(code, text) if self._content_sent else Retryable(code, text)

    def _refused(self, code: int, text: str) -> Outcome:
        """Return what a reply of 4xx or 5xx means (RFC 5321, 4.2.1: not now, and never)."""
        text = _readable(text)
        found = _ENHANCED.match(text)
        status = found[1] if found else str(code)
        if code < _NEVER:
            return Retryable(status, text)
        fault = (
            not self._connected
            or code in _LOGIN_CODES
            or status in _LOGIN_ENHANCED
            # Before the content a policy (X.7.Y) is about who may send through this server.
            or (status.startswith("5.7.") and not self._content_sent)
        )
        return Rejected(status, text, provider_fault=fault)


def _is_reply(error: Exception) -> bool:
    """Tell whether an error is a well-formed reply of the server's, after which the dialogue goes on."""
    return isinstance(error, aiosmtplib.SMTPResponseException) and _NOT_NOW <= error.code < _NO_REPLY


def queue_id(reply: str) -> str:
    """Return the id under which the server says it has queued a message, "" when it says none."""
    text = _readable(reply)
    for pattern in _QUEUE_IDS:
        found = pattern.search(text)
        if found:
            return found[1][:_MAX_ID]
    return ""


def _readable(text: str) -> str:
    """Return a reply's text in one line, bounded, with U+FFFD for what is not UTF-8."""
    text = text[:_MAX_TEXT].encode(errors="surrogateescape").decode(errors="replace")
    return " ".join("".join(mark if mark.isprintable() else " " for mark in text).split())
