"""The use case of webhooks: verify, log, apply once. A provider gets its 2xx only after the commit."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import orjson

from services.kit import metrics
from services.kit.errors import ForbiddenError, InvalidRequestError, NotFoundError
from services.kit.ids import new_id
from services.kit.logs import get_logger
from services.ledger.accept import Intake
from services.ledger.receipts import ReceiptRow, WebhookLog
from services.message.commit import GroupCommitter, Unit
from services.message.validation import inbound_draft
from services.providers.base import (
    Inbound,
    MalformedWebhookError,
    Provider,
    Receipt,
    WebhookContent,
    WebhookRequest,
)

_log = get_logger(__name__)

# Characters of an event key that are kept as they are.
_MAX_EVENT_KEY = 255

# Headers that are not kept: they carry credentials.
_SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})

# The same in URLs, where a provider cannot sign.
_SECRET_IN_URL = re.compile(r"([?&]token=)[^&#]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Ingested:
    """What a webhook request did, and how the provider is to be answered."""

    webhook_log_id: str
    applied_count: int
    duplicate_count: int
    answer_type: str
    answer_body: bytes


class WebhookIngester:
    """Takes the raw requests of every configured provider."""

    def __init__(self, providers: Mapping[str, Provider], committer: GroupCommitter) -> None:
        self._providers = providers
        self._committer = committer

    async def ingest(self, name: str, request: WebhookRequest, *, remote_address: str) -> Ingested:
        """Verify a request and commit what it says.

        Raises NotFoundError for a provider that is not configured, ForbiddenError for a signature that
        is missing or wrong, InvalidRequestError for a body that cannot be understood; the last two are
        logged in webhook_logs as well.
        """
        provider = self._providers.get(name)
        if provider is None:
            raise NotFoundError(f"no provider {name!r} is configured", reason="PROVIDER_NOT_FOUND")
        if not provider.verify(request):
            await self._refuse(name, request, remote_address, "forged", None)
            raise ForbiddenError("the signature is missing or wrong", reason="WEBHOOK_FORGED")
        try:
            content = provider.parse(request)
        except MalformedWebhookError as error:
            await self._refuse(name, request, remote_address, "malformed", str(error))
            raise InvalidRequestError(
                f"the webhook cannot be understood: {error}", reason="WEBHOOK_MALFORMED"
            ) from None
        return await self._apply(name, request, remote_address, content)

    async def _refuse(
        self, name: str, request: WebhookRequest, remote_address: str, verdict: str, detail: str | None
    ) -> None:
        metrics.WEBHOOKS.labels(name, verdict).inc()
        log = _log_entry(new_id(), name, request, remote_address, verdict, detail)
        _log.warning("webhook_refused", provider=name, verdict=verdict, reason=detail, webhook_log_id=log.id)
        await self._committer.submit(Unit(logs=[log], atomic=True))

    async def _apply(
        self, name: str, request: WebhookRequest, remote_address: str, content: WebhookContent
    ) -> Ingested:
        log_id = new_id()
        items = self._inbound_items(name, content.inbound, log_id)
        receipts = _distinct_receipts(name, content.receipts, log_id)
        unit = Unit(
            items=items,
            receipts=receipts,
            logs=[_log_entry(log_id, name, request, remote_address, "accepted", None)],
            atomic=True,
        )
        committed = await self._committer.submit(unit)
        metrics.WEBHOOKS.labels(name, "accepted").inc()
        applied = [receipt for receipt in committed.applied if receipt.webhook_log_id == log_id]
        moved = sum(receipt.moved for receipt in applied)
        metrics.RECEIPTS.labels("moved").inc(moved)
        metrics.RECEIPTS.labels("late").inc(len(applied) - moved)
        metrics.RECEIPTS.labels("duplicate").inc(len(receipts) - len(applied))
        stored = [item for item in items if committed.stored(item.id)]
        for item in stored:
            metrics.MESSAGES_RECEIVED.labels(item.draft.channel).inc()
        applied_count = len(applied) + len(stored)
        return Ingested(
            webhook_log_id=log_id,
            applied_count=applied_count,
            duplicate_count=len(content.receipts) + len(content.inbound) - applied_count,
            answer_type=content.answer_type,
            answer_body=content.answer_body,
        )

    def _inbound_items(self, name: str, inbound: Sequence[Inbound], log_id: str) -> list[Intake]:
        """Return what can be stored; a message with unusable addresses is logged and left out."""
        now = datetime.now(UTC)
        items: dict[str, Intake] = {}
        for message in inbound:
            try:
                draft = inbound_draft(message, now=now, source=name, webhook_log_id=log_id)
            except InvalidRequestError as error:
                _log.error(
                    "inbound_refused",
                    provider=name,
                    webhook_log_id=log_id,
                    fields=[v.field for v in error.violations],
                )
                continue
            draft.event_key = _bounded(draft.event_key or "")
            items.setdefault(draft.event_key, Intake(new_id(), draft))
        return list(items.values())


def _distinct_receipts(name: str, receipts: Sequence[Receipt], log_id: str) -> list[ReceiptRow]:
    rows: dict[str, ReceiptRow] = {}
    for receipt in receipts:
        event_key = _bounded(receipt.event_key)
        rows.setdefault(
            event_key,
            ReceiptRow(
                provider=name,
                event_key=event_key,
                message_id=_uuid_or_none(receipt.message_id),
                state=receipt.state,
                attempt=receipt.attempt,
                provider_message_id=receipt.provider_message_id or None,
                provider_time=receipt.provider_time,
                error_code=receipt.error_code or None,
                detail=receipt.detail or None,
                webhook_log_id=log_id,
            ),
        )
    return list(rows.values())


def _bounded(event_key: str) -> str:
    """Return a key that fits an index entry: a provider's overlong one is replaced by its digest."""
    if len(event_key) <= _MAX_EVENT_KEY:
        return event_key
    return hashlib.blake2b(event_key.encode(errors="replace"), digest_size=32).hexdigest()


def _uuid_or_none(text: str) -> str | None:
    try:
        return str(UUID(text)) if text else None
    except ValueError:
        return None


def _log_entry(
    log_id: str, name: str, request: WebhookRequest, remote_address: str, verdict: str, detail: str | None
) -> WebhookLog:
    # PostgreSQL stores no NUL characters.
    headers = {
        key.replace("\0", ""): value.replace("\0", "")
        for key, value in request.headers.items()
        if key not in _SECRET_HEADERS
    }
    return WebhookLog(
        id=log_id,
        provider=name,
        method=request.method,
        url=_SECRET_IN_URL.sub(r"\1***", request.url.replace("\0", "")),
        headers=orjson.dumps(headers).decode(),
        body=request.body,
        remote_address=remote_address,
        verdict=verdict,
        detail=detail,
    )
