"""What a transaction of intake leaves to be published."""

from collections.abc import Sequence

from services.kit.tracing import is_sampled, tracing
from services.ledger.accept import Acceptance, Intake
from services.ledger.event_batches import EncodedEvent, encode_event, outbound_event
from services.ledger.receipts import AppliedReceipt
from services.ledger.relay import Announcement


def announcement_of(
    event_outbox_ids: Sequence[str],
    items: Sequence[Intake],
    acceptances: Sequence[Acceptance],
    applied: Sequence[AppliedReceipt],
) -> Announcement:
    """Return the events and envelopes of one transaction."""
    return Announcement(
        event_outbox_ids=event_outbox_ids,
        make_events=lambda: [*_intake_events(items, acceptances), *_receipt_events(applied)],
        envelopes=[envelope for acceptance in acceptances for envelope in acceptance.envelopes],
        traces={} if tracing() is None else _traces(items, acceptances),
    )


def _traces(items: Sequence[Intake], acceptances: Sequence[Acceptance]) -> dict[str, str]:
    """Return the traceparents of what was stored and is traced, by message."""
    stored = {message_id for acceptance in acceptances for message_id in acceptance.stored}
    return {item.id: item.trace for item in items if item.id in stored and is_sampled(item.trace)}


def _intake_events(items: Sequence[Intake], acceptances: Sequence[Acceptance]) -> list[EncodedEvent]:
    events = []
    for acceptance in acceptances:
        for item in items:
            if item.id not in acceptance.stored:
                continue
            draft = item.draft
            inbound = draft.direction == "inbound"
            events.append(
                encode_event(
                    message_id=item.id,
                    sequence=1,
                    type="received" if inbound else "scheduled" if draft.send_time else "accepted",
                    create_time=acceptance.create_time,
                    conversation_id=draft.conversation_id,
                    channel=draft.channel,
                    direction=draft.direction,
                    sender=draft.sender,
                    recipient=draft.recipient,
                    provider=draft.source,
                )
            )
    return events


def _receipt_events(applied: Sequence[AppliedReceipt]) -> list[EncodedEvent]:
    return [
        outbound_event(
            receipt.message_id,
            receipt,
            sequence=receipt.sequence,
            type=receipt.state if receipt.moved else "receipt",
            create_time=receipt.create_time,
            provider=receipt.provider,
            error_code=receipt.error_code,
            attempt_number=receipt.attempt,
        )
        for receipt in applied
        if receipt.message_id is not None
    ]
