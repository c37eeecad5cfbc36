"""Records how attempts ended: one transaction, then the news and the counts of it."""

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence

from services.dispatch.publish import settled_announcement
from services.dispatch.tracing import trace_attempts
from services.kit import metrics
from services.kit.ids import new_id
from services.kit.logs import get_logger, logs_debug
from services.ledger.claims import ClaimedMessage
from services.ledger.database import Database
from services.ledger.opt_outs import (
    OPTED_OUT_CODES,
    ConsentEntry,
    Recorded,
    count_consent,
    record_consent,
)
from services.ledger.outcomes import Settled, Settlement, settle
from services.ledger.relay import Relay
from services.ledger.threading import family_of

_log = get_logger(__name__)


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
        owner: int,
    ) -> None:
        """Record the settlements of messages, and close the envelopes of ours that are done with them.

        Raises UnavailableError while the database does not answer; nothing is recorded then.
        """
        if not settlements and not settled_outbox_ids:
            return
        event_outbox_id = new_id()
        recorded: list[Recorded] = []
        opt_outs = _opt_outs(messages, settlements)
        async with contextlib.AsyncExitStack() as transaction:
            connection = await transaction.enter_async_context(self._database.hot())
            # A lone statement is a transaction of its own.
            if opt_outs:
                await transaction.enter_async_context(connection.transaction())
            settled = await settle(
                connection,
                settlements,
                settled_outbox_ids=settled_outbox_ids,
                owner=owner,
                event_outbox_id=event_outbox_id,
                republish_after=self._republish_after,
            )
            if opt_outs:
                recorded = await record_consent(connection, opt_outs)
        count_consent(recorded)
        by_id = {settlement.id: settlement for settlement in settlements}
        if settled:
            self._relay.announce(
                settled_announcement(event_outbox_id, {m.id: m for m in messages}, by_id, settled)
            )
        _count(by_id, settled)
        trace_attempts(messages, settlements)
        if logs_debug():
            for done in settled:
                ended = by_id[done.id]
                _log.debug(
                    "attempt_settled",
                    message_id=done.id,
                    channel=ended.channel,
                    provider=ended.provider,
                    outcome=ended.outcome,
                    error_code=ended.error_code,
                )


def _opt_outs(messages: Sequence[ClaimedMessage], settlements: Sequence[Settlement]) -> list[ConsentEntry]:
    """Return the opt-outs that providers have refused messages for."""
    refused = {s.id: s for s in settlements if s.outcome == "rejected" and s.error_code in OPTED_OUT_CODES}
    return [
        ConsentEntry(
            sender=message.sender,
            recipient=message.recipient,
            family=family_of(message.channel),
            change="opted_out",
            source="provider",
            reason=f"{refused[message.id].provider} refused with error {refused[message.id].error_code}",
            message_id=message.id,
        )
        for message in (messages if refused else ())
        if message.id in refused
    ]


def _count(settlements: Mapping[str, Settlement], settled: Sequence[Settled]) -> None:
    attempts: Counter[tuple[str, str, str]] = Counter()
    failures: Counter[tuple[str, str]] = Counter()
    for done in settled:
        settlement = settlements[done.id]
        if settlement.outcome is not None:
            attempts[settlement.channel, settlement.provider or "", settlement.outcome] += 1
        if settlement.dead_reason is not None and done.moved:
            failures[settlement.channel, settlement.dead_reason] += 1
    for (channel, provider, outcome), number in attempts.items():
        metrics.ATTEMPTS.labels(channel, provider, outcome).inc(number)
        if outcome == "accepted":
            metrics.MESSAGES_SENT.labels(channel, provider).inc(number)
            metrics.DISPATCH_SUCCESSES.labels(channel, provider).inc(number)
        else:
            metrics.DISPATCH_FAILURES.labels(channel, provider, outcome).inc(number)
    for (channel, reason), number in failures.items():
        metrics.MESSAGES_FAILED.labels(channel, reason).inc(number)
