"""When a call is made again, and after how long: a rule without a clock or a network."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from posthouse_client.errors import OverloadedError, PosthouseError, RateLimitedError, UnavailableError

# What a repeat may mend. Every call of this client may be repeated: sends carry an idempotency key, the
# others read or cancel.
_PASSING = (UnavailableError, OverloadedError, RateLimitedError)


@dataclass(slots=True)
class Retries:
    """The attempts of one call: at most `attempts` in a row, with growing random pauses between them.

    Pauses are in seconds. A server's own wish (RetryInfo) counts unless it is beyond `longest_pause`.
    """

    attempts: int = 5
    first_pause: float = 0.1
    longest_pause: float = 10.0
    draw: Callable[[], float] = random.random
    _failed: int = field(default=0, init=False)

    def pause_after(self, error: PosthouseError) -> float:
        """Return how long to wait before the next attempt; raise `error` when there is to be none."""
        self._failed += 1
        wish = error.retry_after or 0.0
        if not isinstance(error, _PASSING) or self._failed >= self.attempts or wish > self.longest_pause:
            raise error
        backoff = min(self.longest_pause, self.first_pause * 2.0 ** (self._failed - 1))
        # At least half of it, so that a retry never comes at once; never before the server wants it.
        return max(wish, backoff * (0.5 + self.draw() / 2))

    def reset(self) -> None:
        """Begin to count anew, after a success."""
        self._failed = 0


def is_passing(error: PosthouseError) -> bool:
    """Tell whether a repeat may succeed."""
    return isinstance(error, _PASSING)
