"""The events of dispatch, as they are announced after each transaction."""

from collections.abc import Mapping, Sequence

from services.ledger.claims import ClaimedMessage
from services.ledger.event_batches import EncodedEvent, outbound_event
from services.ledger.holding import Held
from services.ledger.inquiries import Orphan
from services.ledger.outcomes import Settled, Settlement
from services.ledger.refusals import RefusedMessage
from services.ledger.relay import Announcement


def claim_announcement(event_outbox_id: str, claimed: Sequence[ClaimedMessage]) -> Announcement:
    """Return the `sending` events of a claim, which has one time."""
    claim_time = claimed[0].attempt_time
    return Announcement(
        [event_outbox_id],
        lambda: [
            outbound_event(
                message.id,
                message,
                sequence=message.event_count,
                type="sending",
                create_time=claim_time,
                attempt_number=message.attempt,
            )
            for message in claimed
        ],
    )


def refusal_announcement(event_outbox_id: str, refused: Sequence[RefusedMessage]) -> Announcement:
    """Return the `failed` events of messages that were given up without an attempt."""
    return Announcement(
        [event_outbox_id],
        lambda: [
            outbound_event(
                message.id,
                message,
                sequence=message.event_count,
                type="failed",
                create_time=message.create_time,
                error_code=message.error_code,
            )
            for message in refused
        ],
    )


def orphan_announcement(event_outbox_id: str, orphans: Sequence[Orphan]) -> Announcement:
    """Return the `unknown` events of attempts whose dispatcher has died."""
    return Announcement(
        [event_outbox_id],
        lambda: [
            outbound_event(
                orphan.id,
                orphan,
                sequence=orphan.event_count,
                type="unknown",
                create_time=orphan.create_time,
                error_code="dispatcher_lost",
                attempt_number=orphan.attempt,
            )
            for orphan in orphans
        ],
    )


def settled_announcement(
    event_outbox_id: str,
    messages: Mapping[str, ClaimedMessage],
    settlements: Mapping[str, Settlement],
    settled: Sequence[Settled],
) -> Announcement:
    """Return the events of outcomes that were recorded together."""
    create_time = settled[0].create_time

    def make_events() -> list[EncodedEvent]:
        events = []
        for done in settled:
            message, settlement = messages[done.id], settlements[done.id]
            events.append(
                outbound_event(
                    done.id,
                    message,
                    sequence=done.sequence,
                    type=settlement.event if done.moved else "receipt",
                    create_time=create_time,
                    provider=settlement.provider,
                    error_code=settlement.error_code,
                    attempt_number=settlement.attempt,
                )
            )
        return events

    return Announcement([event_outbox_id], make_events)


def held_announcement(event_outbox_id: str, held: Sequence[Held]) -> Announcement:
    """Return the `held` events of messages that are left to a person."""
    return Announcement(
        [event_outbox_id],
        lambda: [
            outbound_event(
                message.id,
                message,
                sequence=message.event_count,
                type="held",
                create_time=message.create_time,
                provider=message.provider,
                attempt_number=message.attempt,
            )
            for message in held
        ],
    )
