"""Says that a subscription was disabled: in the metrics, in the log, and on the stream EVENTS."""

from datetime import UTC, datetime
from typing import Final

from posthouse.v1 import event_pb2 as event_pb
from services.kit import metrics
from services.kit.bus import BUS_ERRORS, Bus
from services.kit.logs import get_logger
from services.ledger.event_batches import make_timestamp

_log = get_logger(__name__)

SUBJECT: Final = "posthouse.event.subscription.disabled"


class SubscriptionNews:
    """Publishes what operators should hear. It is news, not work: the ledger has the state itself."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def disabled(self, subscription_id: str, reason: str) -> None:
        """Say that a subscription was disabled: request, failing or gone. An absent broker is not told."""
        metrics.SUBSCRIPTIONS_DISABLED.labels(reason).inc()
        _log.warning("subscription_disabled", subscription_id=subscription_id, reason=reason)
        now = datetime.now(UTC)
        event = event_pb.Event(
            id=f"{subscription_id}.disabled.{round(now.timestamp() * 1_000_000)}",
            type="disabled",
            create_time=make_timestamp(now),
            subscription_id=subscription_id,
            error_code=reason,
        )
        try:
            payload = event_pb.EventBatch(events=[event]).SerializeToString()
            await self._bus.publish(SUBJECT, payload, message_id=event.id)
        except BUS_ERRORS as error:
            _log.warning("subscription_news_lost", subscription_id=subscription_id, error=repr(error))
