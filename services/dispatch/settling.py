"""Records how attempts ended: one transaction, then the news and the counts of it."""

from collections.abc import Sequence

from services.dispatch.publish import settled_announcement
from services.kit import metrics
from services.kit.ids import new_id
from services.ledger.claims import ClaimedMessage
from services.ledger.database import Database
from services.ledger.outcomes import Settlement, settle
from services.ledger.relay import Relay


class Settler:
    """Settles attempts in the ledger and announces what became of them."""

    def __init__(self, database: Database, relay: Relay, *, republish_after: float) -> None:
        self._database = database
        self._relay = relay
        self._republish_after = republish_after

    async def settle(
        self,
        messages: Sequence[ClaimedMessage],
        settlements: Sequence[Settlement],
        *,
        settled_outbox_ids: Sequence[str],
    ) -> None:
        """Record the settlements of messages, and close the envelopes that are done with them.

        Raises UnavailableError while the database does not answer; nothing is recorded then.
        """
        if not settlements and not settled_outbox_ids:
            return
        event_outbox_id = new_id()
        async with self._database.hot() as connection:
            settled = await settle(
                connection,
                settlements,
                settled_outbox_ids=settled_outbox_ids,
                event_outbox_id=event_outbox_id,
                republish_after=self._republish_after,
            )
        by_id = {settlement.id: settlement for settlement in settlements}
        if settled:
            self._relay.announce(
                settled_announcement(event_outbox_id, {m.id: m for m in messages}, by_id, settled)
            )
        for done in settled:
            _count(by_id[done.id], done.moved)


def _count(settlement: Settlement, moved: bool) -> None:
    provider = settlement.provider or ""
    if settlement.outcome is not None:
        metrics.ATTEMPTS.labels(settlement.channel, provider, settlement.outcome).inc()
    if settlement.state == "sent":
        metrics.MESSAGES_SENT.labels(settlement.channel, provider).inc()
    elif settlement.dead_reason is not None and moved:
        metrics.MESSAGES_FAILED.labels(settlement.channel, settlement.dead_reason).inc()
