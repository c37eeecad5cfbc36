"""What is kept of a provider's request, and what became of the news in it."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

import orjson

from services.ledger.accept import Acceptance, Intake
from services.ledger.receipts import AppliedReceipt, ReceiptRow, WebhookLog
from services.providers.base import WebhookRequest

# Bytes kept of a body that nobody vouches for: anybody may send them.
MAX_FORGED_BYTES: Final = 65_536

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
    """Return the entry that keeps a request, without its credentials."""
    body = request.body[:MAX_FORGED_BYTES] if verdict == "forged" else request.body
    # PostgreSQL stores no NUL characters.
    headers = {
        key.replace("\0", ""): _without_secret(value.replace("\0", ""))
        for key, value in request.headers.items()
        if key not in _SECRET_HEADERS
    }
    return WebhookLog(
        id=log_id,
        provider=name,
        method=request.method,
        url=_without_secret(request.url.replace("\0", "")),
        headers=orjson.dumps(headers).decode(),
        body=body,
        remote_address=remote_address,
        verdict=verdict,
        detail=detail,
        body_size=len(request.body) if len(body) < len(request.body) else None,
    )


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
