"""What is kept of a provider's request, and what became of the news in it."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

import orjson

from services.ledger.accept import Acceptance, Intake
from services.ledger.receipts import AppliedReceipt, ReceiptRow, WebhookLog
from services.providers.base import WebhookRequest

# What is kept of a request that nobody vouches for, in bytes of its body and characters of its URL and of all
# its headers. A text message of Twilio's fits.
MAX_FORGED_BYTES: Final = 16_384
_MAX_FORGED_URL: Final = 2048
_MAX_FORGED_HEADERS: Final = 8192

# Headers that are not kept: they carry credentials.
_SECRET_HEADERS: Final = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})

# The same of URLs, where a provider cannot sign; proxies repeat them in headers.
_SECRET_PARAMETERS: Final = frozenset({"token"})

# Characters of an event key that are kept as they are.
_MAX_EVENT_KEY: Final = 255


def bounded_key(event_key: str) -> str:
    """Return a key that fits an index entry: a provider's overlong one is replaced by its digest."""
    if len(event_key) <= _MAX_EVENT_KEY:
        return event_key
    return hashlib.blake2b(event_key.encode(errors="replace"), digest_size=32).hexdigest()


def log_entry(
    log_id: str,
    name: str,
    request: WebhookRequest,
    *,
    remote_address: str,
    verdict: str,
    detail: str | None = None,
) -> WebhookLog:
    """Return the entry that keeps a request, without its credentials.

    What is too large of a forged one is left out; its digest then tells what the body was.
    """
    # PostgreSQL stores no NUL characters.
    headers = {
        key.replace("\0", ""): _without_secret(value.replace("\0", ""))
        for key, value in request.headers.items()
        if key not in _SECRET_HEADERS
    }
    log = WebhookLog(
        id=log_id,
        provider=name,
        method=request.method,
        url=_without_secret(request.url.replace("\0", "")),
        headers=orjson.dumps(headers).decode(),
        body=request.body,
        remote_address=remote_address,
        verdict=verdict,
        detail=detail,
    )
    if verdict == "forged":
        _cut(log, headers)
    return log


def _cut(log: WebhookLog, headers: Mapping[str, str]) -> None:
    """Bound an entry that anybody may cause; one that is not whole has a body size."""
    url, headers_json, body = log.url, log.headers, log.body
    log.url, log.body = url[:_MAX_FORGED_URL], body[:MAX_FORGED_BYTES]
    if len(headers_json) > _MAX_FORGED_HEADERS:
        kept, room = {}, _MAX_FORGED_HEADERS
        for name, value in headers.items():
            room -= len(name) + len(value)
            if room >= 0:
                kept[name] = value
        log.headers = orjson.dumps(kept).decode()
    if (log.url, log.headers, log.body) != (url, headers_json, body):
        log.body_size = len(body)
        log.detail = f"not kept whole; sha256 of the body: {hashlib.sha256(body).hexdigest()}"


def _without_secret(text: str) -> str:
    """Return a URL without the secret of its query, however its name is written; any other text as it is."""
    head, mark, query = text.partition("?")
    if not mark:
        return text
    parts = (part.partition("=") for part in query.split("&"))
    return (
        head
        + mark
        + "&".join(
            f"{name}{equals}***" if unquote(name).lower() in _SECRET_PARAMETERS else f"{name}{equals}{value}"
            for name, equals, value in parts
        )
    )


@dataclass(slots=True)
class _Outcome:
    applied: int = 0
    named: int = 0
    message_ids: dict[str, None] = field(default_factory=dict)


def note_outcomes(
    logs: Iterable[WebhookLog],
    items: Iterable[Intake],
    receipts: Iterable[ReceiptRow],
    acceptances: Sequence[Acceptance],
    applied: Iterable[AppliedReceipt],
) -> None:
    """Write into the entries of a transaction what it has made of their news.

    A repeat is linked to the message it names; that of an inbound message names none of ours, and is linked
    when the transaction has ended.
    """
    outcomes: defaultdict[str | None, _Outcome] = defaultdict(_Outcome)
    for item in items:
        if item.draft.webhook_log_id is None:
            continue
        outcome = outcomes[item.draft.webhook_log_id]
        outcome.named += 1
        if any(item.id in acceptance.stored for acceptance in acceptances):
            outcome.applied += 1
            outcome.message_ids[item.id] = None
    for receipt in receipts:
        outcome = outcomes[receipt.webhook_log_id]
        outcome.named += 1
        if receipt.message_id is not None:
            outcome.message_ids[receipt.message_id] = None
    for news in applied:
        outcomes[news.webhook_log_id].applied += 1
    for log in logs:
        outcome = outcomes[log.id]
        log.message_ids = list(outcome.message_ids)
        log.applied_count = outcome.applied
        log.repeated_count = outcome.named - outcome.applied
