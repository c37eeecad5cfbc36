"""Twilio: SMS and MMS out by its REST API, messages and delivery reports in by its webhooks."""

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import aiohttp
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.rest import Client

from services.kit.config import Settings, WrongSettingError
from services.kit.logs import get_logger
from services.kit.networks import is_loopback
from services.providers.base import (
    Accepted,
    CannotTell,
    Found,
    LookupResult,
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
from services.providers.in_order import send_in_order
from services.providers.retry_after import read_retry_after
from services.providers.shared_semaphore import SharedSemaphore
from services.providers.twilio_errors import outcome_of
from services.providers.twilio_lookup import MAX_PAGES, PAGE_SIZE, Search, read_page
from services.providers.twilio_webhook import (
    ANSWER_BODY,
    ANSWER_TYPE,
    WebhookKeys,
    origins_of,
    parse_request,
    verify_signature,
)

_log = get_logger(__name__)

# The SDK logs the numbers and headers of every request at level info: that goes nowhere.
_wire_log = logging.getLogger(f"{__name__}.wire")

# Accepted messages a process remembers, so that an inquiry does not take one for its identical twin.
_MEMORY: Final = 100_000
# Seconds an attempt may have waited for its turn before its request: the batches before it take theirs.
_WAIT: Final = 900.0


@dataclass(frozen=True, slots=True)
class TwilioConfig:
    """What a Twilio provider is made of. `timeout` is in seconds, of one request."""

    account_sid: str
    auth_token: str = field(default="", repr=False)
    api_key: str = ""
    api_secret: str = field(default="", repr=False)
    webhook_shared_key: str = field(default="", repr=False)
    messaging_service_sid: str = ""
    webhook_base_url: str = "http://127.0.0.1:8000"
    base_url: str = "https://api.twilio.com"
    timeout: float = 20.0
    concurrency: int = 40


class TwilioProvider(Provider):
    """Sends with the official SDK, one request a message, some of them at the same time."""

    name = "twilio"
    channels = frozenset({"sms", "mms"})
    # A message is in Twilio's lists soon after it was taken, though nothing says how soon.
    inquiry_delay = 60.0
    answer_type = ANSWER_TYPE
    answer_body = ANSWER_BODY

    def __init__(self, config: TwilioConfig) -> None:
        self._config = config
        self._keys = WebhookKeys(config.auth_token, config.webhook_shared_key)
        self._origins = origins_of(config.webhook_base_url)
        self._callback = _callback_url(config.webhook_base_url)
        self._messages_uri = f"/2010-04-01/Accounts/{config.account_sid}/Messages.json"
        self.semaphore: SharedSemaphore = SharedSemaphore(config.concurrency)
        self._client: Client | None = None
        # What was answered lately: SIDs by the ids of their messages, and the same SIDs alone.
        self._sid_of: OrderedDict[str, str] = OrderedDict()
        self._known: set[str] = set()
        self.batch_size = config.concurrency
        # A message waits as long for its turn as its request may take.
        self.send_timeout = 2 * config.timeout + 5.0

    async def start(self) -> None:
        """Open the pool of connections."""
        if not self._callback:
            _log.warning("twilio_cannot_report", setting="POSTHOUSE_WEBHOOK_BASE_URL", reason="loopback")
        _wire_log.disabled = True
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(_note_connection)
        trace.on_connection_reuseconn.append(_note_connection)
        transport = AsyncTwilioHttpClient(
            trace_configs=[trace],
            logger=_wire_log,
        )
        config = self._config
        self._client = Client(
            config.api_key or config.account_sid,
            config.api_secret if config.api_key else config.auth_token,
            config.account_sid,
            http_client=transport,
            # Otherwise it looks for an edge and a region in the process's environment.
            environment={"TWILIO_ACCOUNT_SID": config.account_sid},
        )

    async def close(self) -> None:
        """Close the pool of connections."""
        if self._client is not None:
            await self._client.http_client.close()
            self._client = None

    async def send(self, messages: Sequence[OutboundMessage]) -> list[Outcome]:
        """Create each message at Twilio; what was not answered is Unknown unless it never left."""
        last_start = asyncio.get_running_loop().time() + self._config.timeout
        return await send_in_order(
            self.name,
            messages,
            self._build,
            lambda message, fields: self._send(message, fields, last_start),
        )

    async def lookup(self, messages: Sequence[OutboundMessage]) -> list[LookupResult]:
        """Look for messages in Twilio's list of what went from their sender to their recipient."""
        twins = Counter(map(_wording, messages))
        return list(
            # Of two that read alike nobody can say which is the one that arrived.
            await asyncio.gather(*(self._look_up(m, unique=twins[_wording(m)] == 1) for m in messages))
        )

    def verify(self, request: WebhookRequest) -> bool:
        """Tell whether Twilio made this request: its signature over URL and parameters is right."""
        return verify_signature(self._keys, self._origins, request)

    def parse(self, request: WebhookRequest) -> WebhookContent:
        """Return the receipt or the message of a verified request, or raise MalformedWebhookError."""
        return parse_request(request)

    def create_fields(self, message: OutboundMessage) -> dict[str, Any]:
        """Return the fields of the request that creates a message."""
        fields: dict[str, Any] = {"To": message.recipient, "From": message.sender}
        if self._config.messaging_service_sid:
            # With both, the service's features hold and the conversation keeps its number.
            fields["MessagingServiceSid"] = self._config.messaging_service_sid
        if message.body:
            fields["Body"] = message.body
        if message.attachments:
            fields["MediaUrl"] = [item["url"] for item in message.attachments]
        if self._callback:
            query = urlencode({"message_id": message.id, "attempt": message.attempt})
            fields["StatusCallback"] = f"{self._callback}?{query}"
        return fields

    def _build(self, message: OutboundMessage) -> dict[str, Any] | Rejected:
        if any(not item.get("url") for item in message.attachments):
            return Rejected("media_without_url", "Twilio takes media by URL only")
        return self.create_fields(message)

    async def _send(self, message: OutboundMessage, fields: dict[str, Any], last_start: float) -> Outcome:
        trip = _Trip()
        _trip.set(trip)
        if asyncio.get_running_loop().time() >= last_start:
            return NotBegun("those before it took too long")
        try:
            async with asyncio.timeout_at(last_start):
                await self.semaphore.acquire()
        except TimeoutError:
            return NotBegun("no request could be made in time")
        try:
            outcome = await self._create(fields)
        except Exception as error:  # noqa: BLE001 - whatever it was, what matters is whether it left
            reason = "timeout" if isinstance(error, TimeoutError) else "connection_failed"
            return (Unknown if trip.connected else Retryable)(reason, type(error).__name__)
        finally:
            self.semaphore.release()
        if isinstance(outcome, Accepted):
            self._remember(outcome.provider_message_id, message.id)
        return outcome

    async def _create(self, fields: dict[str, Any]) -> Outcome:
        answer = await self._request("POST", self._messages_uri, data=fields)
        return outcome_of(
            answer.status_code, answer.text, read_retry_after(answer.headers.get("Retry-After"))
        )

    async def _look_up(self, message: OutboundMessage, *, unique: bool) -> LookupResult:
        if message.id in self._sid_of:
            return Found(self._sid_of[message.id])
        search = Search.of(message, longest=_WAIT + self.send_timeout)
        if search is None or not unique:
            return CannotTell()
        async with self.semaphore:
            return await self._search(message, search)

    async def _search(self, message: OutboundMessage, search: Search) -> LookupResult:
        # DateSent is no filter for this: what waits in Twilio's queue has none yet.
        params: dict[str, Any] | None = {
            "To": message.recipient,
            "From": message.sender,
            "PageSize": PAGE_SIZE,
        }
        uri = self._messages_uri
        for _ in range(MAX_PAGES):
            try:
                answer = await self._request("GET", uri, params=params)
                page = read_page(answer.text) if answer.status_code == HTTPStatus.OK else None
            except Exception:  # noqa: BLE001 - no answer is no proof, whatever the reason
                return CannotTell()
            if page is None or not search.take(page.records, self._known):
                return CannotTell()
            if search.complete or not page.next_uri:
                return search.result()
            uri, params = page.next_uri, None
        return CannotTell()

    async def _request(self, method: str, uri: str, **content: Any) -> Any:
        if self._client is None:
            raise ConnectionError("the provider is not started")
        return await self._client.request_async(
            method, self._config.base_url.rstrip("/") + uri, timeout=self._config.timeout, **content
        )

    def _remember(self, sid: str, message_id: str) -> None:
        self._known.discard(self._sid_of.pop(message_id, ""))
        self._sid_of[message_id] = sid
        self._known.add(sid)
        if len(self._sid_of) > _MEMORY:
            _, oldest = self._sid_of.popitem(last=False)
            self._known.discard(oldest)


def _wording(message: OutboundMessage) -> tuple[str, str, str]:
    return message.sender, message.recipient, message.body


@dataclass(slots=True)
class _Trip:
    """How far a request came: before it has a connection, nothing of it can have left."""

    connected: bool = False


_trip: ContextVar[_Trip] = ContextVar("twilio_trip")


async def _note_connection(_session: Any, _context: Any, _parameters: Any) -> None:
    trip = _trip.get(None)
    if trip is not None:
        trip.connected = True


def _callback_url(base_url: str) -> str:
    """Return where Twilio reports to, "" when it could not reach us: it refuses such addresses."""
    return (
        ""
        if is_loopback(urlsplit(base_url).hostname or "")
        else f"{base_url.rstrip('/')}/api/v1/webhooks/twilio"
    )


def has_credentials(settings: Settings) -> bool:
    """Tell whether Twilio's webhooks can be verified with these settings."""
    return bool(settings.twilio_auth_token or settings.twilio_webhook_key)


def from_settings(settings: Settings) -> Provider:
    """Return the provider, or raise WrongSettingError naming what it misses.

    Without a route it takes webhooks only, and needs no more than the key that signs them.
    """
    token, secret = _text(settings.twilio_auth_token), _text(settings.twilio_api_secret)
    if any("twilio" in names for names in settings.routing.values()):
        if not settings.twilio_account_sid:
            raise WrongSettingError("TWILIO_ACCOUNT_SID: must be set when POSTHOUSE_ROUTES uses twilio")
        if not (token or (settings.twilio_api_key and secret)):
            raise WrongSettingError(
                "TWILIO_AUTH_TOKEN: must be set, or TWILIO_API_KEY and TWILIO_API_SECRET, "
                "when POSTHOUSE_ROUTES uses twilio"
            )
    try:
        return TwilioProvider(
            TwilioConfig(
                account_sid=settings.twilio_account_sid or "",
                auth_token=token,
                api_key=settings.twilio_api_key or "" if secret else "",
                api_secret=secret,
                webhook_shared_key=_text(settings.twilio_webhook_key),
                messaging_service_sid=settings.twilio_messaging_service_sid or "",
                webhook_base_url=settings.webhook_base_url,
                base_url=settings.twilio_base_url,
                timeout=settings.twilio_timeout,
                concurrency=settings.twilio_concurrency,
            )
        )
    except ValueError as error:
        raise WrongSettingError(f"POSTHOUSE_WEBHOOK_BASE_URL: {error}") from None


def _text(secret: Any) -> str:
    return "" if secret is None else str(secret.get_secret_value())
