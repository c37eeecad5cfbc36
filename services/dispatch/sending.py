"""Hands claimed messages to their providers, and turns what comes of it into settlements."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import datetime

from services.dispatch.admission import Admission, Gate
from services.dispatch.history import NOTHING, History, is_throttling
from services.dispatch.order import by_acceptance
from services.dispatch.retry import RetryPolicy, Route, expiry_of, held_back, settlement_of, too_old, unsent
from services.dispatch.routing import Router
from services.kit import metrics
from services.kit.keyring import ContentError, KeyMissingError
from services.kit.logs import get_logger
from services.kit.reply_to import reply_to_of
from services.kit.tracing import span
from services.ledger.claims import ClaimedMessage
from services.ledger.mail_threads import MailThread
from services.ledger.outcomes import Settlement
from services.providers.base import (
    Accepted,
    NotBegun,
    OutboundMessage,
    Outcome,
    Provider,
    Rejected,
    Retryable,
    UnbuildableError,
    Unknown,
)

_log = get_logger(__name__)

# Seconds, at least and at most, until a message is looked at again that no provider could be given; and the
# most that are added to it, one for each time that it was claimed.
_HELD_BACK = (1.0, 5.0)
_MOST_PATIENCE = 60

# Seconds, at most, until a message is looked at again whose key is not configured: more each time.
_KEY_WAIT = 10.0
_LONGEST_KEY_WAIT = 600.0


class Postman:
    """Sends messages over the routes of their channels."""

    def __init__(
        self,
        router: Router,
        providers: Mapping[str, Provider],
        policy: RetryPolicy,
        gate: Gate,
        *,
        reply_to: Mapping[str, str] | None = None,
        clock: Callable[[], datetime],
    ) -> None:
        # The ledger's: it says what has expired.
        self._clock = clock
        # Where e-mail is answered to, by sender.
        self._reply_to = reply_to
        self._router = router
        self._providers = providers
        self._policy = policy
        self._gate = gate
        self._draw = random.Random()  # noqa: S311 - jitter is no secret

    async def send(
        self,
        messages: Sequence[ClaimedMessage],
        *,
        may_send: Callable[[Sequence[ClaimedMessage]], bool],
        histories: Mapping[str, History],
        threads: Mapping[str, MailThread],
        admission: Admission | None = None,
    ) -> AsyncIterator[tuple[Sequence[ClaimedMessage], list[Settlement]]]:
        """Send messages and yield them with their settlements, a provider's batch at a time.

        Before each batch `may_send` is asked about it; when it says no, the rest is left alone.
        `histories` has the messages that have one, `threads` those that answer an e-mail. Without an
        admission every provider may be given any number.
        """
        routed, unsendable = self._route(messages, histories, admission)
        if unsendable:
            yield messages, unsendable
        for name, pairs in in_order(routed):
            provider = self._providers[name]
            start = 0
            while start < len(pairs):
                now = self._clock()
                batch = pairs[start : start + provider.batch_share]
                start += len(batch)
                # Batches before this one may have kept some waiting past their time.
                late = [message for message, _ in batch if _is_late(message, now)]
                if late:
                    yield late, [expiry_of(message) for message in late]
                    batch = [pair for pair in batch if not _is_late(pair[0], now)]
                if not batch:
                    continue
                chunk = [message for message, _ in batch]
                if not may_send(chunk):
                    return
                outcomes = await _send(
                    provider, [outbound(one, threads.get(one.id), self._reply_to) for one in chunk]
                )
                self._tell(name, chunk, outcomes, admission)
                yield (
                    chunk,
                    [
                        self._settlement(message, outcome, route, histories.get(message.id, NOTHING))
                        for (message, route), outcome in zip(batch, outcomes, strict=True)
                    ],
                )

    def _route(
        self,
        messages: Sequence[ClaimedMessage],
        histories: Mapping[str, History],
        admission: Admission | None,
    ) -> tuple[dict[str, list[tuple[ClaimedMessage, Route]]], list[Settlement]]:
        """Return what each provider is given, and the settlements of what none can be given now."""
        routed: dict[str, list[tuple[ClaimedMessage, Route]]] = {}
        unsendable: list[Settlement] = []
        senders = self._gate.senders
        for message in messages:
            if message.content_error is not None:
                senders.give_back(message.sender)
                unsendable.append(self._unreadable(message, message.content_error))
                continue
            history = histories.get(message.id, NOTHING)
            if history.retrying and history.age(message.attempt_time) > self._policy.max_age:
                senders.give_back(message.sender)
                unsendable.append(too_old(message))
                continue
            route = self._router.choose(message, history, admission)
            if route is None:
                senders.give_back(message.sender)
                unsendable.append(self._unroutable(message))
            else:
                routed.setdefault(route.provider, []).append((message, route))
        return routed, unsendable

    def release(self, messages: Sequence[ClaimedMessage]) -> list[Settlement]:
        """Return what gives messages back, without an attempt, to whoever works on."""
        return [held_back(message, 0.0, "its dispatcher stopped before it was sent") for message in messages]

    def withhold(self, messages: Sequence[ClaimedMessage]) -> list[Settlement]:
        """Return what puts messages off without an attempt, until their providers may be tried."""
        return [self._unroutable(message) for message in messages]

    def _settlement(
        self, message: ClaimedMessage, outcome: Outcome, route: Route, history: History
    ) -> Settlement:
        if isinstance(outcome, NotBegun):
            self._gate.senders.give_back(message.sender)
            metrics.MESSAGES_HELD_BACK.labels(message.channel, "busy").inc()
            return held_back(message, self._patience(message), outcome.reason)
        return settlement_of(
            message,
            outcome,
            route,
            self._policy,
            self._draw,
            history=history,
            has_other=isinstance(outcome, Rejected)
            and self._router.has_other(message, history, route.provider),
        )

    def _unroutable(self, message: ClaimedMessage) -> Settlement:
        names = self._router.providers_of(message)
        if not names:
            return unsent(message, "no_route", f"no provider carries {message.channel} there", "no_route")
        metrics.MESSAGES_HELD_BACK.labels(message.channel, "breaker").inc()
        delay = max(self._gate.wait(message.channel, names), self._patience(message))
        return held_back(message, delay, "no provider that is left for it takes any at the moment")

    def _patience(self, message: ClaimedMessage) -> float:
        """Return the seconds until a message that was held back is looked at again."""
        return self._draw.uniform(*_HELD_BACK) + min(message.attempt, _MOST_PATIENCE) - 1

    def _unreadable(self, message: ClaimedMessage, error: ContentError) -> Settlement:
        """Return what becomes of a message whose content cannot be opened: a missing key may yet come."""
        _log.error("content_not_opened", message_id=message.id, reason=error.reason, detail=str(error))
        if not isinstance(error, KeyMissingError):
            return unsent(message, "content_damaged", str(error), "content_damaged")
        longest = min(_KEY_WAIT * message.attempt, _LONGEST_KEY_WAIT)
        return held_back(message, self._draw.uniform(longest / 2, longest), str(error))

    def _tell(
        self,
        provider: str,
        messages: Sequence[ClaimedMessage],
        outcomes: Sequence[Outcome],
        admission: Admission | None,
    ) -> None:
        """Tell the gate how a batch ended, by channel; throttled messages say nothing of the provider.

        What was not begun says nothing at all.
        """
        tallies: dict[str, list[int]] = {}
        for message, outcome in zip(messages, outcomes, strict=True):
            if isinstance(outcome, NotBegun):
                continue
            tally = tallies.get(message.channel)
            if tally is None:
                tally = tallies[message.channel] = [0, 0, 0]
            if isinstance(outcome, Accepted):
                tally[0] += 1
                continue
            tally[2] += message.attempt == 1
            if isinstance(outcome, Retryable) and is_throttling(outcome.error_code):
                continue
            tally[0 if isinstance(outcome, Rejected) and not outcome.provider_fault else 1] += 1
        for channel, (successes, failures, first_attempts) in tallies.items():
            self._gate.record(
                provider, channel, successes=successes, failures=failures, first_attempts=first_attempts
            )
            if admission is not None:
                admission.tell(provider, successes + failures)


def in_order(
    routed: Mapping[str, Sequence[tuple[ClaimedMessage, Route]]],
) -> Iterable[tuple[str, Sequence[tuple[ClaimedMessage, Route]]]]:
    """Return what each provider gets, one after the other, in the order of each conversation.

    Mostly there is one provider. Otherwise a message whose predecessor goes to another waits for the
    next round.
    """
    if len(routed) <= 1:
        return routed.items()
    rounds: dict[tuple[int, str], list[tuple[ClaimedMessage, Route]]] = {}
    places: dict[str, tuple[int, str]] = {}
    ordered = sorted(
        (pair for pairs in routed.values() for pair in pairs), key=lambda pair: by_acceptance(pair[0])
    )
    for pair in ordered:
        message, route = pair
        number, provider = places.get(message.conversation_id, (0, route.provider))
        place = (number if provider == route.provider else number + 1, route.provider)
        places[message.conversation_id] = place
        rounds.setdefault(place, []).append(pair)
    return [(place[1], rounds[place]) for place in sorted(rounds)]


def _is_late(message: ClaimedMessage, now: datetime) -> bool:
    return message.expire_time is not None and message.expire_time <= now


def outbound(
    message: ClaimedMessage, thread: MailThread | None = None, reply_to: Mapping[str, str] | None = None
) -> OutboundMessage:
    """Return a message as a provider gets it. `reply_to`, by sender, is for e-mail that names none itself."""
    return OutboundMessage(
        id=message.id,
        attempt=message.attempt,
        channel=message.channel,
        sender=message.sender,
        recipient=message.recipient,
        body=message.body,
        subject=message.subject or "",
        html=message.html or "",
        attachments=message.attachments or (),
        in_reply_to=thread.in_reply_to if thread else "",
        references=thread.references if thread else (),
        reply_to=message.reply_to
        or (reply_to_of(message.sender, reply_to) if reply_to and message.channel == "email" else ""),
        attempt_time=message.attempt_time,
    )


async def _send(provider: Provider, messages: Sequence[OutboundMessage]) -> list[Outcome]:
    """Send one batch without those messages of which no request can be made: they are refused."""
    refused: dict[str, Outcome] = {}
    while True:
        rest = [message for message in messages if message.id not in refused]
        try:
            outcomes = await _send_once(provider, rest) if rest else []
        except UnbuildableError as error:
            # Nothing has left: its neighbours may go without it.
            _log.error(
                "message_not_built", provider=provider.name, message_id=error.message_id, reason=str(error)
            )
            if error.message_id not in {message.id for message in rest}:
                return [Unknown("provider_error", "a message of another call")] * len(messages)
            refused[error.message_id] = Rejected("unbuildable", str(error))
        else:
            break
    if not refused:
        return outcomes
    left = iter(outcomes)
    return [refused[message.id] if message.id in refused else next(left) for message in messages]


async def _send_once(provider: Provider, messages: Sequence[OutboundMessage]) -> list[Outcome]:
    """Send one batch; whatever goes wrong beyond the provider's own answers leaves it unknown."""
    unknown: Outcome
    try:
        async with asyncio.timeout(provider.send_timeout):
            with span("provider send", None, "client", provider=provider.name, message_count=len(messages)):
                outcomes = await provider.send(messages)
    except TimeoutError:
        unknown = Unknown("timeout", f"no answer within {provider.send_timeout:g} s")
    except UnbuildableError:
        raise
    except Exception as error:  # noqa: BLE001 - it may have raised after the request went out
        _log.exception("provider_raised", provider=provider.name)
        unknown = Unknown("provider_error", type(error).__name__)
    else:
        if len(outcomes) == len(messages):
            return outcomes
        unknown = Unknown("provider_error", f"{len(outcomes)} outcomes for {len(messages)} messages")
    return [unknown] * len(messages)
