"""Asks providers what became of messages whose outcome is unknown."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from services.dispatch.history import history_of
from services.dispatch.publish import orphan_announcement
from services.dispatch.retry import Route
from services.dispatch.routing import Router
from services.dispatch.sending import outbound
from services.dispatch.settling import Settler
from services.kit.ids import new_id
from services.kit.logs import get_logger
from services.ledger.claims import ClaimedMessage, claim_inquiries, claim_orphans, postpone
from services.ledger.database import Database
from services.ledger.outcomes import Settlement
from services.ledger.relay import Relay
from services.ledger.tries import Try, load_tries
from services.providers.base import Absent, CannotTell, Found, LookupResult, Provider

_log = get_logger(__name__)

# Inquiries before a message is left UNKNOWN for a receipt or a person to settle; each waits twice as long.
_MAX_INQUIRIES = 8
_LONGEST_DELAY = 300.0


class Inquirer:
    """Works on the inquiry lane."""

    def __init__(
        self,
        database: Database,
        relay: Relay,
        settler: Settler,
        router: Router,
        providers: Mapping[str, Provider],
        *,
        max_attempts: int,
    ) -> None:
        self._database = database
        self._relay = relay
        self._settler = settler
        self._router = router
        self._providers = providers
        self._max_attempts = max_attempts

    async def adopt(self, outbox_ids: Sequence[str], *, owner: int, own: Sequence[str]) -> None:
        """Mark what a dead dispatcher left under way in our envelopes as UNKNOWN, to be asked for later."""
        event_outbox_id = new_id()
        async with self._database.hot() as connection:
            orphans = await claim_orphans(
                connection,
                outbox_ids,
                owner=owner,
                own=own,
                inquiry_delay=self._router.longest_inquiry_delay,
                event_outbox_id=event_outbox_id,
            )
        if orphans:
            _log.warning("attempts_orphaned", messages=len(orphans))
            self._relay.announce(orphan_announcement(event_outbox_id, orphans))

    async def ask(self, outbox_ids: Sequence[str], *, owner: int, lease: float) -> None:
        """Ask about every message of the envelopes that is still UNKNOWN; settle what is answered."""
        async with self._database.hot() as connection:
            messages, taken = await claim_inquiries(connection, outbox_ids, owner=owner, lease=lease)
        settlements = await self._inquire(messages)
        settled = {settlement.id for settlement in settlements}
        unanswered = {message.outbox_id for message in messages if message.id not in settled}
        again = {
            outbox_id: asked
            for outbox_id, asked in taken.items()
            if outbox_id in unanswered and asked < _MAX_INQUIRIES
        }
        closed = [outbox_id for outbox_id in taken if outbox_id not in again]
        await self._settler.settle(messages, settlements, settled_outbox_ids=closed)
        for asked in sorted(set(again.values())):
            delay = min(self._router.longest_inquiry_delay * 2.0**asked, _LONGEST_DELAY)
            later = [outbox_id for outbox_id, times in again.items() if times == asked]
            async with self._database.hot() as connection:
                await postpone(connection, later, owner=owner, delay=delay)

    async def _inquire(self, messages: Sequence[ClaimedMessage]) -> list[Settlement]:
        if not messages:
            return []
        async with self._database.hot() as connection:
            tries = await load_tries(connection, [message.id for message in messages])
        answers: dict[str, list[tuple[Route, LookupResult]]] = {message.id: [] for message in messages}
        for channel in sorted({message.channel for message in messages}):
            for route in self._router.candidates(channel):
                asked = [
                    message
                    for message in messages
                    if message.channel == channel
                    and _may_have(route.provider, message, tries.get(message.id, ()))
                ]
                results = await self._lookup(route.provider, asked) if asked else []
                for message, result in zip(asked, results, strict=True):
                    answers[message.id].append((route, result))
        settlements = []
        for message in messages:
            history = history_of(tries.get(message.id, ()), before=message.attempt)
            free = message.attempt - 1 - history.counted
            settlement = verdict(message, answers[message.id], max_attempts=self._max_attempts + free)
            if settlement is not None:
                settlements.append(settlement)
        return settlements

    async def _lookup(self, name: str, messages: Sequence[ClaimedMessage]) -> list[LookupResult]:
        try:
            return await self._providers[name].lookup([outbound(message) for message in messages])
        except Exception:  # noqa: BLE001 - a provider that raises has not answered
            _log.exception("lookup_failed", provider=name)
            return [CannotTell()] * len(messages)


def _may_have(provider: str, message: ClaimedMessage, tries: Sequence[Try]) -> bool:
    """Tell whether a provider may have been given the attempt; which one is unknown when ours has died."""
    given = {one.provider for one in tries if one.number == message.attempt and one.provider}
    return not given or provider in given


def verdict(
    message: ClaimedMessage, answers: Sequence[tuple[Route, LookupResult]], *, max_attempts: int
) -> Settlement | None:
    """Return what the answers of all candidate providers settle; None when they leave it open.

    Found by one: it was sent. Absent from all: it was not, and is sent again if it has attempts left.
    """
    for route, answer in answers:
        if isinstance(answer, Found):
            return replace(
                _settlement(message, route),
                state="sent",
                outcome="accepted",
                event="sent",
                provider_message_id=answer.provider_message_id or None,
                error_message="the provider has it, as an inquiry found",
            )
    if not answers or not all(isinstance(answer, Absent) for _, answer in answers):
        return None
    # The attempt stays unknown: that is why there is another one.
    absent = replace(
        _settlement(message, answers[0][0]),
        error_code="absent",
        error_message="the provider has proved its absence",
    )
    if message.attempt >= max_attempts:
        return replace(absent, state="failed", event="failed", dead_reason="attempts_exhausted")
    return replace(absent, state="pending", event="retrying", delay=0.0)


def _settlement(message: ClaimedMessage, route: Route) -> Settlement:
    return Settlement(
        id=message.id,
        attempt=message.attempt,
        channel=message.channel,
        priority=message.priority,
        state="unknown",
        outcome="unknown",
        event="unknown",
        start_time=message.attempt_time,
        provider=route.provider,
        route_reason=route.reason,
    )
