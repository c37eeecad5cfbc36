"""The use case of webhooks: verify, log, apply once. A provider gets its 2xx only after the commit."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from services.kit import metrics
from services.kit.errors import (
    ForbiddenError,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    PosthouseError,
)
from services.kit.ids import new_id
from services.kit.logs import get_logger
from services.kit.networks import is_loopback
from services.kit.tracing import tracing
from services.ledger.accept import Intake
from services.ledger.database import Database
from services.ledger.reads import find_by_provider_event
from services.ledger.receipts import WebhookLog
from services.ledger.webhook_logs import KeptRequest, link_logs
from services.message.commit import GroupCommitter, Unit
from services.message.email_threading import thread_emails
from services.message.forgeries import Forgeries
from services.message.placing import count_receipts, distinct_receipts, park_unplaced
from services.message.tracing import trace_receipts
from services.message.validation import inbound_draft
from services.message.webhook_logging import bounded_key, log_entry, note_outcomes
from services.providers.base import Inbound, MalformedWebhookError, Provider, WebhookContent, WebhookRequest

_log = get_logger(__name__)

# Bytes from which a body is taken apart in a thread: it would keep everybody else waiting.
_LARGE: Final = 262_144

# What a proxy adds: behind one every caller looks local.
_FORWARDED: Final = frozenset({"forwarded", "via", "x-forwarded-for", "x-real-ip"})


_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request as it came in, the provider whose address it came to, and the peer's address."""

    provider: str
    request: WebhookRequest
    remote_address: str


@dataclass(frozen=True, slots=True)
class Ingested:
    """What a webhook request did, and how the provider is to be answered."""

    webhook_log_id: str
    applied_count: int
    duplicate_count: int
    refused_count: int
    answer_type: str
    answer_body: bytes


class WebhookIngester:
    """Takes the raw requests of every configured provider.

    Without `verification` callers on loopback are believed without proof, all others as little as ever.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        database: Database,
        committer: GroupCommitter,
        *,
        forgeries: Forgeries,
        verification: bool = True,
    ) -> None:
        self._providers = providers
        self._database = database
        self._committer = committer
        self._forgeries = forgeries
        self._verification = verification

    async def ingest(self, arrived: Sequence[Arrived]) -> list[Ingested | PosthouseError]:
        """Verify requests and commit what they say, each on its own, together where they come together.

        In their order come what they did, or why they were refused: NotFoundError for a provider that is not
        configured, ForbiddenError for a signature that is missing or wrong, and what the commit raises. What
        a provider has signed and nobody can understand is an error in the log and answered as any other: it
        would be no better the next time.
        """
        return await asyncio.gather(*(self._settle(each) for each in arrived))

    async def _settle(self, arrived: Arrived) -> Ingested | PosthouseError:
        try:
            return await self._ingest(arrived.provider, arrived.request, arrived.remote_address)
        except PosthouseError as error:
            return error
        except Exception:  # noqa: BLE001 - logged; its neighbours are answered whatever it was
            _log.exception("webhook_failed", provider=arrived.provider)
            return InternalError()

    async def _ingest(self, name: str, request: WebhookRequest, remote_address: str) -> Ingested:
        provider = self._provider(name)
        verdict = "accepted"
        if not await _aside(request, provider.verify):
            if self._verification or not _is_local(request, remote_address):
                await self._refuse(name, request, remote_address)
            verdict = "unverified"
        log = log_entry(new_id(), name, request, remote_address=remote_address, verdict=verdict)
        content = await self._parse(provider, request, log)
        duplicates = await self._apply(log, content, keep_log=True)
        metrics.WEBHOOKS.labels(name, log.verdict).inc()
        return Ingested(
            webhook_log_id=log.id,
            applied_count=log.applied_count,
            duplicate_count=duplicates,
            refused_count=log.refused_count,
            answer_type=content.answer_type,
            answer_body=content.answer_body,
        )

    async def replay(self, kept: KeptRequest) -> WebhookLog:
        """Apply a kept request again, whatever was said of it before; what was applied is not done twice.

        Returns the entry with what has come of it now. Raises NotFoundError for a provider that is not
        configured. The caller answers for where the request came from.
        """
        provider = self._provider(kept.provider)
        request = WebhookRequest(kept.method, kept.url, kept.headers, kept.body)
        verdict = kept.verdict if kept.verdict == "unverified" else "accepted"
        log = log_entry(kept.id, kept.provider, request, remote_address=kept.remote_address, verdict=verdict)
        content = await self._parse(provider, request, log)
        await self._apply(log, content, keep_log=False)
        return log

    def _provider(self, name: str) -> Provider:
        provider = self._providers.get(name)
        if provider is None:
            raise NotFoundError("no provider of this name is configured", reason="PROVIDER_NOT_FOUND")
        return provider

    async def _refuse(self, name: str, request: WebhookRequest, remote_address: str) -> None:
        metrics.WEBHOOKS.labels(name, "forged").inc()
        log = await _aside(
            request,
            lambda request: log_entry(
                new_id(), name, request, remote_address=remote_address, verdict="forged"
            ),
        )
        if await self._forgeries.admit(log):
            await self._committer.submit(Unit(logs=[log], atomic=True))
        raise ForbiddenError("the signature is missing or wrong", reason="WEBHOOK_FORGED")

    async def _parse(self, provider: Provider, request: WebhookRequest, log: WebhookLog) -> WebhookContent:
        """Return what a request says, nothing when it cannot be understood; the entry says which."""
        try:
            content = await _aside(request, provider.parse)
        except MalformedWebhookError as error:
            log.verdict, log.detail = "malformed", str(error)
            _log.error("webhook_malformed", provider=log.provider, reason=log.detail, webhook_log_id=log.id)
            content = WebhookContent(
                refused_count=1, answer_type=provider.answer_type, answer_body=provider.answer_body
            )
        log.refused_count = content.refused_count
        return content

    async def _apply(self, log: WebhookLog, content: WebhookContent, *, keep_log: bool) -> int:
        """Commit what a request says; return how much of it was known already."""
        told = len(content.receipts) + len(content.inbound) + log.refused_count
        items = self._inbound_items(content.inbound, log)
        told -= log.refused_count
        await thread_emails(self._database, [item.draft for item in items])
        receipts, log.parked_count = await park_unplaced(
            self._database, distinct_receipts(log.provider, content.receipts, log.id)
        )
        logs = [log] if keep_log else []
        committed = await self._committer.submit(Unit(items, receipts, logs, atomic=True))
        applied = [receipt for receipt in committed.applied if receipt.webhook_log_id == log.id]
        count_receipts(len(receipts), applied)
        if tracing() is not None:
            await trace_receipts(self._database, applied)
        repeats = []
        for item in items:
            if committed.stored(item.id):
                metrics.MESSAGES_RECEIVED.labels(item.draft.channel).inc()
            else:
                repeats.append((log.provider, item.draft.event_key or ""))
        if repeats:
            await self._link(log, repeats)
        if not keep_log:
            note_outcomes([log], items, receipts, committed.acceptances, applied)
        return told - log.applied_count - log.parked_count

    async def _link(self, log: WebhookLog, repeats: Sequence[tuple[str, str]]) -> None:
        """Link the entry of a repeat to what came of the first one, unless that is erased by now."""
        async with self._database.write() as connection:
            found = await find_by_provider_event(connection, repeats)
            if found:
                await link_logs(connection, [(log.id, message_id) for message_id, _ in found.values()])

    def _inbound_items(self, inbound: Sequence[Inbound], log: WebhookLog) -> list[Intake]:
        """Return what can be stored; a message with unusable addresses is logged and left out."""
        now = self._database.clock.now()
        items: dict[str, Intake] = {}
        for message in inbound:
            try:
                draft = inbound_draft(message, now=now, source=log.provider, webhook_log_id=log.id)
            except InvalidRequestError as error:
                log.refused_count += 1
                _log.error(
                    "inbound_refused",
                    provider=log.provider,
                    webhook_log_id=log.id,
                    fields=[violation.field for violation in error.violations],
                )
                continue
            draft.event_key = bounded_key(draft.event_key or "")
            items.setdefault(draft.event_key, Intake(new_id(), draft))
        return list(items.values())


async def _aside(request: WebhookRequest, work: Callable[[WebhookRequest], _T]) -> _T:
    """Do something with a request, in a thread when it is large."""
    if len(request.body) < _LARGE:
        return work(request)
    return await asyncio.to_thread(work, request)


def _is_local(request: WebhookRequest, remote_address: str) -> bool:
    return is_loopback(remote_address) and not _FORWARDED & request.headers.keys()
