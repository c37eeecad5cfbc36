"""Gives up what may not be sent any more, and keeps account of what is sent in spite of an opt-out."""

from collections import Counter
from collections.abc import Sequence

from services.dispatch.publish import refusal_announcement
from services.kit import metrics
from services.kit.ids import new_id
from services.ledger.claims import ClaimedMessage
from services.ledger.database import Database
from services.ledger.opt_outs import record_overrides
from services.ledger.refusals import refuse_waiting
from services.ledger.relay import Relay


class Refuser:
    """Looks after the messages that a claim has left waiting, and after those it took by exception."""

    def __init__(self, database: Database, relay: Relay, *, republish_after: float) -> None:
        self._database = database
        self._relay = relay
        self._republish_after = republish_after

    async def refuse(self, outbox_ids: Sequence[str], *, owner: int | None) -> None:
        """Fail what expired, or whose recipient opted out, while it waited in envelopes that are ours.

        Without an owner: in envelopes that nobody has claimed.
        """
        event_outbox_id = new_id()
        async with self._database.hot() as connection:
            refused = await refuse_waiting(
                connection,
                outbox_ids,
                owner=owner,
                event_outbox_id=event_outbox_id,
                republish_after=self._republish_after,
            )
        if refused:
            self._relay.announce(refusal_announcement(event_outbox_id, refused))
        for (channel, reason), number in Counter((m.channel, m.error_code) for m in refused).items():
            metrics.MESSAGES_FAILED.labels(channel, reason).inc(number)
            if reason == "opted_out":
                metrics.OPT_OUT_REFUSALS.labels(channel, "dispatch").inc(number)

    async def note_overrides(self, claimed: Sequence[ClaimedMessage]) -> None:
        """Keep in the history of consent, before they are sent, which messages override an opt-out."""
        transactional = [message.id for message in claimed if message.transactional]
        if transactional:
            async with self._database.hot() as connection:
                await record_overrides(connection, transactional)
