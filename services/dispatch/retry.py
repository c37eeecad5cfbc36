"""What follows from an outcome: pure rules, no clock and no database."""

import math
import random
from dataclasses import dataclass
from typing import Final

from services.dispatch.history import History, is_throttling
from services.ledger.claims import ClaimedMessage
from services.ledger.outcomes import Settlement
from services.providers.base import Accepted, Attempted, Rejected, Retryable
from services.providers.retry_after import LONGEST

# Throttled attempts, which no allowance pays for, before a message is given up all the same.
_MOST_THROTTLED = 200

# Claims of a message, with an attempt or without, before it is given up: 32,767 is the last to be stored.
_MOST_CLAIMS = 32_000

# Reason of the dead letter of a message that has been tried for too long.
TOO_OLD: Final = "too_old"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a message is tried again. Times are in seconds; `max_age` is that of the message."""

    max_attempts: int
    base: float
    longest: float
    max_age: float = math.inf

    def backoff(self, attempt: int, retry_after: float | None, draw: random.Random) -> float:
        """Return the delay after attempt number `attempt`: exponential with full jitter.

        A provider's Retry-After is a lower bound, up to an hour; `longest` bounds what we add to it.
        """
        ceiling = min(self.longest, self.base * 2.0 ** min(attempt - 1, 60))
        return max(draw.uniform(0.0, ceiling), min(retry_after or 0.0, LONGEST))


@dataclass(frozen=True, slots=True)
class Route:
    """The provider chosen for a message, and why."""

    provider: str
    reason: str
    inquiry_delay: float


def settlement_of(
    message: ClaimedMessage,
    outcome: Attempted,
    route: Route,
    policy: RetryPolicy,
    draw: random.Random,
    *,
    history: History | None = None,
    has_other: bool = False,
) -> Settlement:
    """Return what an outcome does to a message.

    Without a history, every earlier attempt counts. `has_other` tells that another provider may still take
    what this one refuses for a fault of its own.
    """
    if isinstance(outcome, Accepted):
        # Nearly every one: made by place, without what the others need.
        return Settlement(
            message.id,
            message.attempt,
            message.channel,
            message.priority,
            "sent",
            "accepted",
            "sent",
            message.attempt_time,
            route.provider,
            outcome.provider_message_id or None,
            route_reason=route.reason,
        )
    counted = (history.counted if history else message.attempt - 1) + 1

    def settle(
        state: str,
        kind: str,
        event: str,
        *,
        error: tuple[str, str],
        delay: float | None = None,
        dead_reason: str | None = None,
    ) -> Settlement:
        return Settlement(
            id=message.id,
            attempt=message.attempt,
            channel=message.channel,
            priority=message.priority,
            state=state,
            outcome=kind,
            event=event,
            start_time=message.attempt_time,
            provider=route.provider,
            error_code=error[0],
            error_message=error[1],
            route_reason=route.reason,
            delay=delay,
            dead_reason=dead_reason,
        )

    error = (outcome.error_code, outcome.error_message)
    if isinstance(outcome, Rejected) and outcome.provider_fault and has_other:
        return settle("pending", "rejected", "retrying", error=error, delay=0.0)
    if isinstance(outcome, Rejected):
        return settle("failed", "rejected", "failed", error=error, dead_reason="rejected")
    if isinstance(outcome, Retryable):
        throttled = (history.throttled if history else 0) + 1 if is_throttling(outcome.error_code) else 0
        delay = policy.backoff(throttled or counted, outcome.retry_after, draw)
        age = history.age(message.attempt_time) if history else 0.0
        used_up = throttled > _MOST_THROTTLED or (not throttled and counted >= policy.max_attempts)
        if used_up or age + delay > policy.max_age:
            reason = "attempts_exhausted" if used_up else TOO_OLD
            return settle("failed", "retryable", "failed", error=error, dead_reason=reason)
        return settle("pending", "retryable", "retrying", error=error, delay=delay)
    return settle("unknown", "unknown", "unknown", error=error, delay=route.inquiry_delay)


def held_back(message: ClaimedMessage, delay: float, reason: str) -> Settlement:
    """Return the settlement of a message that may not be sent now: it waits, without an attempt.

    One that has been claimed for weeks is given up: no column would take its number in the end.
    """
    if message.attempt >= _MOST_CLAIMS:
        return unsent(message, TOO_OLD, f"it has been held back too often: {reason}", TOO_OLD)
    return Settlement(
        id=message.id,
        attempt=message.attempt,
        channel=message.channel,
        priority=message.priority,
        state="pending",
        outcome=None,
        event="retrying",
        start_time=message.attempt_time,
        error_code="held_back",
        error_message=reason,
        delay=delay,
    )


def expiry_of(message: ClaimedMessage) -> Settlement:
    """Return the settlement of a message that must not be sent any more."""
    return unsent(message, "expired", "expire_time has passed", "expired")


def too_old(message: ClaimedMessage) -> Settlement:
    """Return the settlement of a message whose next attempt has come too late."""
    return unsent(message, TOO_OLD, "it has been tried for too long", TOO_OLD)


def unsent(message: ClaimedMessage, error_code: str, error_message: str, dead_reason: str) -> Settlement:
    """Return the settlement of a message that is given up without an attempt."""
    return Settlement(
        id=message.id,
        attempt=message.attempt,
        channel=message.channel,
        priority=message.priority,
        state="failed",
        outcome=None,
        event="failed",
        start_time=message.attempt_time,
        error_code=error_code,
        error_message=error_message,
        dead_reason=dead_reason,
    )
