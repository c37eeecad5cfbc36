"""Asks providers what became of messages whose outcome is unknown."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from services.dispatch.history import history_of
from services.dispatch.publish import held_announcement, orphan_announcement
from services.dispatch.retry import TOO_OLD, Route
from services.dispatch.routing import Router
from services.dispatch.sending import outbound
from services.dispatch.settling import Settler
from services.kit.ids import new_id
from services.kit.logs import get_logger
from services.kit.unknown_policy import UnknownPolicy
from services.ledger.claims import ClaimedMessage
from services.ledger.database import Database
from services.ledger.holding import Hold, hold
from services.ledger.inquiries import claim_inquiries, claim_orphans, postpone
from services.ledger.outcomes import Settlement
from services.ledger.parking import Attempted, find_attempts
from services.ledger.relay import Relay
from services.ledger.tries import Try, load_tries
from services.providers.base import Absent, CannotTell, Found, LookupResult, Provider

_log = get_logger(__name__)

# Inquiries before a message is left UNKNOWN for a receipt or a person to settle; each waits twice as long.
_MAX_INQUIRIES = 8
_LONGEST_DELAY = 300.0
# Seconds by which an inquiry may come early: those of a tenth of a second share an envelope.
_SLACK = 0.2

_ABSENT = "the provider has proved its absence"


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
        max_age: float,
        policy: UnknownPolicy,
        republish_after: float,
    ) -> None:
        self._database = database
        self._relay = relay
        self._settler = settler
        self._router = router
        self._providers = providers
        self._max_attempts = max_attempts
        self._max_age = max_age
        self._policy = policy
        self._republish_after = republish_after

    async def adopt(self, outbox_ids: Sequence[str], *, owner: int, own: Sequence[str], lease: float) -> None:
        """Mark what a dead dispatcher left under way in our envelopes as UNKNOWN, to be asked for later."""
        event_outbox_id = new_id()
        async with self._database.hot() as connection:
            orphans = await claim_orphans(
                connection,
                outbox_ids,
                owner=owner,
                own=own,
                lease=lease,
                inquiry_delay=self._router.longest_inquiry_delay,
                event_outbox_id=event_outbox_id,
            )
        if orphans:
            _log.warning("attempts_orphaned", messages=len(orphans))
            self._relay.announce(orphan_announcement(event_outbox_id, orphans))

    async def ask(self, outbox_ids: Sequence[str], *, owner: int, lease: float) -> None:
        """Ask about every message of the envelopes that is still UNKNOWN; settle what is answered."""
        async with self._database.hot() as connection:
            messages, before = await claim_inquiries(connection, outbox_ids, owner=owner, lease=lease)
        taken = {outbox_id: times + 1 for outbox_id, times in before.items()}
        settlements, holds = await self._inquire(messages)
        settled = {*(settlement.id for settlement in settlements), *(one.id for one in holds)}
        holds += [
            Hold(message.id, message.attempt, f"not settled by {_MAX_INQUIRIES} inquiries")
            for message in messages
            if message.id not in settled and taken[message.outbox_id] >= _MAX_INQUIRIES
        ]
        # Before its envelope is closed: what is left to a person is to have said so.
        await self._hold(holds)
        unanswered = {message.outbox_id for message in messages if message.id not in settled}
        again = {
            outbox_id: asked
            for outbox_id, asked in taken.items()
            if outbox_id in unanswered and asked < _MAX_INQUIRIES
        }
        closed = [outbox_id for outbox_id in taken if outbox_id not in again]
        await self._settler.settle(messages, settlements, settled_outbox_ids=closed, owner=owner)
        for asked in sorted(set(again.values())):
            delay = min(self._router.longest_inquiry_delay * 2.0**asked, _LONGEST_DELAY)
            later = [outbox_id for outbox_id, times in again.items() if times == asked]
            async with self._database.hot() as connection:
                await postpone(connection, later, owner=owner, delay=delay, asked=asked)

    async def _hold(self, holds: Sequence[Hold]) -> None:
        if not holds:
            return
        event_outbox_id = new_id()
        async with self._database.hot() as connection:
            held = await hold(
                connection, holds, event_outbox_id=event_outbox_id, republish_after=self._republish_after
            )
        if held:
            _log.warning("outcomes_held", messages=len(held))
            self._relay.announce(held_announcement(event_outbox_id, held))

    async def _inquire(self, messages: Sequence[ClaimedMessage]) -> tuple[list[Settlement], list[Hold]]:
        if not messages:
            return [], []
        async with self._database.hot() as connection:
            tries = await load_tries(connection, [message.id for message in messages])
        answers: dict[str, list[tuple[Route, LookupResult]]] = {message.id: [] for message in messages}
        for channel in sorted({message.channel for message in messages}):
            for route in self._router.candidates(channel):
                asked = [
                    message
                    for message in messages
                    if message.channel == channel
                    # Providers tell messages apart by what they say.
                    and message.content_error is None
                    and _may_have(route.provider, message, tries.get(message.id, ()))
                ]
                # An envelope of an earlier attempt asks for this one too early: it may be still on its way.
                enough = route.inquiry_delay - _SLACK
                early = [one for one in asked if _age(one, tries.get(one.id, ())) < enough]
                for message in early:
                    asked.remove(message)
                    answers[message.id].append((route, CannotTell()))
                results = await self._lookup(route.provider, asked) if asked else []
                for message, result in zip(asked, results, strict=True):
                    answers[message.id].append((route, result))
        settlements: list[Settlement] = []
        holds: list[Hold] = []
        for message in messages:
            history = history_of(tries.get(message.id, ()), before=message.attempt)
            free = message.attempt - 1 - history.counted
            settlement = verdict(
                message,
                answers[message.id],
                max_attempts=self._max_attempts + free,
                too_old=history.age(self._database.clock.now()) > self._max_age,
            )
            if settlement is None:
                continue
            holding = [
                route.provider
                for route, _ in answers[message.id]
                if not self._policy.resends(route.provider, message.channel)
            ]
            if settlement.outcome == "unknown" and holding:
                detail = f"{_ABSENT}; the policy of {', '.join(holding)} for {message.channel} is to hold it"
                holds.append(Hold(message.id, message.attempt, detail, holding[0]))
            else:
                settlements.append(settlement)
        return settlements, holds

    async def _lookup(self, name: str, messages: Sequence[ClaimedMessage]) -> list[LookupResult]:
        try:
            results = await self._providers[name].lookup([outbound(message) for message in messages])
        except Exception:  # noqa: BLE001 - a provider that raises has not answered
            _log.exception("lookup_failed", provider=name)
            return [CannotTell()] * len(messages)
        return await self._without_twins(name, messages, results)

    async def _without_twins(
        self, name: str, messages: Sequence[ClaimedMessage], results: Sequence[LookupResult]
    ) -> list[LookupResult]:
        """Believe no find that may be of another message: providers tell some apart by what they say alone.

        A reminder that is sent twice has a twin, which another dispatcher may have sent.
        """
        found = [one.provider_message_id if isinstance(one, Found) else "" for one in results]
        times = Counter(filter(None, found))
        if not times:
            return list(results)
        async with self._database.hot() as connection:
            known = await find_attempts(connection, name, list(times))
        return [
            CannotTell() if key and (times[key] > 1 or _is_another(known.get(key), message)) else result
            for key, message, result in zip(found, messages, results, strict=True)
        ]


def _may_have(provider: str, message: ClaimedMessage, tries: Sequence[Try]) -> bool:
    """Tell whether a provider may have been given the attempt; which one is unknown when ours has died."""
    given = {one.provider for one in tries if one.number == message.attempt and one.provider}
    return not given or provider in given


def _is_another(known: Attempted | None, message: ClaimedMessage) -> bool:
    return known is not None and known.message_id != message.id


def _age(message: ClaimedMessage, tries: Sequence[Try]) -> float:
    """Return the seconds since the attempt was cut short."""
    return next((one.age for one in tries if one.number == message.attempt), math.inf)


def verdict(
    message: ClaimedMessage,
    answers: Sequence[tuple[Route, LookupResult]],
    *,
    max_attempts: int,
    too_old: bool = False,
) -> Settlement | None:
    """Return what the answers of all candidate providers settle; None when they leave it open.

    Found by one: it was sent. Absent from all: it was not, and is sent again if it has attempts left
    and is not too old.
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
        error_message=_ABSENT,
    )
    if message.attempt >= max_attempts:
        return replace(absent, state="failed", event="failed", dead_reason="attempts_exhausted")
    if too_old:
        return replace(absent, state="failed", event="failed", dead_reason=TOO_OLD)
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
