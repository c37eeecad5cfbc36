"""The events of dispatch, as they are announced after each transaction."""

from collections.abc import Mapping, Sequence

from posthouse.v1 import event_pb2 as event_pb
from services.ledger.claims import ClaimedMessage, Orphan
from services.ledger.event_batches import make_event, make_timestamp
from services.ledger.holding import Held
from services.ledger.outcomes import Settled, Settlement
from services.ledger.refusals import RefusedMessage
from services.ledger.relay import Announcement


def claim_announcement(event_outbox_id: str, claimed: Sequence[ClaimedMessage]) -> Announcement:
    """Return the `sending` events of a claim."""
    return Announcement(
        [event_outbox_id],
        lambda: [
            make_event(
                message_id=message.id,
                sequence=message.event_count,
                type="sending",
                create_time=make_timestamp(message.attempt_time),
                conversation_id=message.conversation_id,
                channel=message.channel,
                direction="outbound",
                sender=message.sender,
                recipient=message.recipient,
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
            make_event(
                message_id=message.id,
                sequence=message.event_count,
                type="failed",
                create_time=make_timestamp(message.create_time),
                conversation_id=message.conversation_id,
                channel=message.channel,
                direction="outbound",
                sender=message.sender,
                recipient=message.recipient,
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
            make_event(
                message_id=orphan.id,
                sequence=orphan.event_count,
                type="unknown",
                create_time=make_timestamp(orphan.create_time),
                conversation_id=orphan.conversation_id,
                channel=orphan.channel,
                direction="outbound",
                sender=orphan.sender,
                recipient=orphan.recipient,
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
    """Return the events of outcomes."""

    def make_events() -> list[event_pb.Event]:
        events = []
        for done in settled:
            message, settlement = messages[done.id], settlements[done.id]
            events.append(
                make_event(
                    message_id=done.id,
                    sequence=done.sequence,
                    type=settlement.event if done.moved else "receipt",
                    create_time=make_timestamp(done.create_time),
                    conversation_id=message.conversation_id,
                    channel=message.channel,
                    direction="outbound",
                    sender=message.sender,
                    recipient=message.recipient,
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
            make_event(
                message_id=message.id,
                sequence=message.event_count,
                type="held",
                create_time=make_timestamp(message.create_time),
                conversation_id=message.conversation_id,
                channel=message.channel,
                direction="outbound",
                sender=message.sender,
                recipient=message.recipient,
                provider=message.provider,
                attempt_number=message.attempt,
            )
            for message in held
        ],
    )
