"""The use case of receiving: inbound messages that another system has normalised already."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from posthouse.v1 import message_service_pb2 as pb
from services.kit import enum_names, metrics
from services.kit.errors import InvalidRequestError, PosthouseError, Violation
from services.kit.ids import new_id
from services.kit.status import to_item_error
from services.ledger.accept import Intake
from services.ledger.database import Database
from services.ledger.drafts import Draft
from services.ledger.reads import find_by_provider_event
from services.message.commit import GroupCommitter, Unit
from services.message.email_threading import thread_emails
from services.message.validation import inbound_draft
from services.providers.base import Inbound
from services.providers.registry import known_providers

_MAX_KEY_LENGTH = 255


class Receiver:
    """Stores inbound messages once per (source, event_id)."""

    def __init__(self, database: Database, committer: GroupCommitter) -> None:
        self._database = database
        self._committer = committer
        self._providers = known_providers()

    async def receive(self, messages: Sequence[pb.InboundMessage]) -> list[pb.ReceiveResult]:
        """Store each message on its own and return the results in order."""
        results: list[pb.ReceiveResult | None] = [None] * len(messages)
        items: dict[tuple[str, str], Intake] = {}
        keys: list[tuple[str, str] | None] = [None] * len(messages)
        now = self._database.clock.now()
        for position, message in enumerate(messages):
            try:
                item = Intake(new_id(), read_inbound(message, self._providers, now=now))
            except PosthouseError as error:
                results[position] = pb.ReceiveResult(error=to_item_error(error))
                continue
            keys[position] = (message.source, message.event_id)
            items.setdefault((message.source, message.event_id), item)
        if items:
            stored = await self._store(items)
            first_seen: set[tuple[str, str]] = set()
            for position, key in enumerate(keys):
                if key is None:
                    continue
                answer = pb.ReceiveResult()
                answer.CopyFrom(stored[key])
                answer.duplicate = answer.duplicate or key in first_seen
                first_seen.add(key)
                results[position] = answer
        return results  # type: ignore[return-value]  # every position has been filled

    async def _store(self, items: dict[tuple[str, str], Intake]) -> dict[tuple[str, str], pb.ReceiveResult]:
        await thread_emails(self._database, [item.draft for item in items.values()])
        committed = await self._committer.submit(Unit(items=list(items.values())))
        results: dict[tuple[str, str], pb.ReceiveResult] = {}
        known: list[tuple[str, str]] = []
        for key, item in items.items():
            if item.id in committed.refused:
                results[key] = pb.ReceiveResult(error=to_item_error(committed.refused[item.id]))
            elif committed.stored(item.id):
                metrics.MESSAGES_RECEIVED.labels(item.draft.channel).inc()
                results[key] = pb.ReceiveResult(
                    message_id=item.id, conversation_id=item.draft.conversation_id
                )
            else:
                known.append(key)
        if known:
            metrics.DUPLICATES.labels("inbound").inc(len(known))
            async with self._database.read() as connection:
                found = await find_by_provider_event(connection, known)
            for key in known:
                message_id, conversation_id = found.get(key, ("", ""))
                results[key] = pb.ReceiveResult(
                    message_id=message_id, conversation_id=conversation_id, duplicate=True
                )
        return results


def read_inbound(message: pb.InboundMessage, providers: Collection[str], *, now: datetime) -> Draft:
    """Return the draft of a message, or raise InvalidRequestError naming every field at fault.

    `providers` are the names that its source may not have.
    """
    faults = [
        Violation(field, "must be 1 to 255 characters without control characters")
        for field, value in (("source", message.source), ("event_id", message.event_id))
        if not value or len(value) > _MAX_KEY_LENGTH or not value.isprintable()
    ]
    if message.source in providers:
        # Its keys are the provider's own: who could take one would have the genuine message passed over.
        faults.append(Violation("source", "is the name of a provider, whose messages come as its webhooks"))
    if message.channel and not enum_names.CHANNEL.word(message.channel):
        faults.append(Violation("channel", "is not a known channel"))
    if not (message.body or message.html or message.attachments):
        faults.append(Violation("body", "must not be empty without html and attachments"))
    if faults:
        raise InvalidRequestError.of(faults)
    inbound = Inbound(
        event_key=message.event_id,
        channel=enum_names.CHANNEL.word(message.channel),
        sender=message.sender,
        recipient=message.recipient,
        body=message.body,
        subject=message.subject,
        html=message.html,
        attachments=[
            {"url": item.url, "content_type": item.content_type, "filename": item.filename}
            for item in message.attachments
        ],
        provider_time=_time(message),
        metadata=dict(message.metadata),
    )
    return inbound_draft(inbound, now=now, source=message.source)


def _time(message: pb.InboundMessage) -> datetime | None:
    """Return when a message was sent, None when that is not said or no time: then it counts from now."""
    if not message.HasField("message_time"):
        return None
    try:
        return message.message_time.ToDatetime(UTC)
    except (ValueError, OverflowError):
        return None
