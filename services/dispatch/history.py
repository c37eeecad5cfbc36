"""What a message has been through at its providers, as routes and retries take it: pure, no database."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from services.ledger.tries import Try

# Codes by which providers ask for patience: HTTP's own, as SendGrid has it too, and Twilio's, which the
# simulator uses as well.
_THROTTLING: Final = frozenset({"429", "http_429", "20429"})


def is_throttling(error_code: str | None) -> bool:
    """Tell whether a retryable answer says "too many" rather than "something is wrong"."""
    return error_code in _THROTTLING


@dataclass(frozen=True, slots=True)
class History:
    """Attempts of a message since it was accepted, or replayed.

    `counted` are those its allowance pays for: all but throttled ones, and refusals that were the
    provider's fault. `failures` has the number of counted ones by provider, `refused` the providers whose
    own fault it was. `since` is when the message was to be sent; `retrying` tells that the last
    attempt surely failed, so that nobody but us has asked for another.
    """

    counted: int = 0
    throttled: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()
    since: datetime | None = None
    retrying: bool = False

    def age(self, moment: datetime) -> float:
        """Return the seconds that the message is old at a moment; 0 where nothing is known of it."""
        return 0.0 if self.since is None else (moment - self.since).total_seconds()


# Of a message in its first attempt.
NOTHING: Final = History()


def history_of(tries: Sequence[Try], *, before: int) -> History:
    """Return the history of a message up to, and without, the attempt of number `before`."""
    failures: Counter[str] = Counter()
    counted = throttled = 0
    refused = set()
    retrying = False
    since = tries[0].since if tries else None
    for one in tries:
        if one.number >= before:
            continue
        retrying = one.outcome != "unknown"
        if one.outcome == "rejected":
            # A plain refusal would have ended the message.
            refused.add(one.provider)
        elif one.outcome == "retryable" and is_throttling(one.error_code):
            throttled += 1
        else:
            counted += 1
            failures[one.provider] += 1
    return History(counted, throttled, dict(failures), frozenset(refused), since, retrying)
