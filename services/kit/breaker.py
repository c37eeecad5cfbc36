"""A circuit breaker: a state machine over outcomes of calls, with an injected clock."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

CLOSED: Final = "closed"
OPEN: Final = "open"
HALF_OPEN: Final = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens and how it closes. Times are in seconds.

    It opens after `consecutive_failures`, or when at least `failure_rate` of at least `minimum_sample`
    outcomes within `window` are failures. After `cool_down` it lets `probes` messages through, and closes
    if at least `recovery_rate` of them succeed: a provider that fails every second time stays out.
    """

    consecutive_failures: int = 10
    failure_rate: float = 0.5
    minimum_sample: int = 20
    window: float = 30.0
    cool_down: float = 10.0
    probes: int = 10
    recovery_rate: float = 0.8


class Breaker:
    """Admits messages while its provider works, none while it does not, and a few to find out.

    `on_change(state)` is called after each transition. `clock` returns monotonic seconds. With `ask`, the
    breaker tries its provider out only when it has been granted: `ask` is called once the cool-down is
    over, and answered by `begin_probing` or `leave_probing`.
    """

    def __init__(
        self,
        policy: BreakerPolicy,
        *,
        clock: Callable[[], float],
        on_change: Callable[[str], None],
        ask: Callable[[], None] | None = None,
    ) -> None:
        self._ask = ask
        self._asking = False
        # Another dispatcher tries the provider out.
        self._elsewhere = False
        self._policy = policy
        self._clock = clock
        self._on_change = on_change
        self._state = CLOSED
        self._consecutive = 0
        # (time, successes, failures) of each recorded batch within the window.
        self._outcomes: deque[tuple[float, int, int]] = deque()
        self._opened_at = 0.0
        self._probes_out = 0
        self._probe_successes = 0
        self._probe_failures = 0

    @property
    def state(self) -> str:
        """Return the state, which time alone may have moved from open to half-open."""
        if self._state == OPEN and self._clock() - self._opened_at >= self._policy.cool_down:
            if self._ask is None:
                self.begin_probing()
            elif not self._asking:
                self._asking = True
                self._ask()
        return self._state

    @property
    def last_state(self) -> str:
        """Return the state as it was when last looked at, whatever time has done to it since."""
        return self._state

    def admit(self, wanted: int) -> int:
        """Return how many of `wanted` messages may be sent now; those that may, count as under way."""
        state = self.state
        if state == CLOSED:
            return wanted
        if state == OPEN:
            return 0
        admitted = max(0, min(wanted, self._policy.probes - self._probes_out))
        self._probes_out += admitted
        return admitted

    def wait(self) -> float:
        """Return the seconds until asking again makes sense."""
        if self.state == OPEN:
            if self._asking or self._elsewhere:
                return 1.0
            return max(0.0, self._opened_at + self._policy.cool_down - self._clock())
        return 0.0 if self._state == CLOSED else 1.0

    def give_back(self, count: int) -> None:
        """Return admissions that were not used: there was nothing to send after all."""
        if self._state == HALF_OPEN:
            self._probes_out = max(0, self._probes_out - count)

    def record(self, *, successes: int, failures: int) -> None:
        """Take note of how messages that were admitted ended."""
        if not successes and not failures:
            return
        state = self.state
        if state == CLOSED:
            self._record_closed(successes, failures)
        elif state == HALF_OPEN:
            self._record_probes(successes, failures)
        # While open, only stragglers from before report; they change nothing.

    def trip(self, age: float = 0.0) -> None:
        """Open: another dispatcher has found the provider failing, so many seconds ago."""
        self._open()
        self._opened_at -= min(age, self._policy.cool_down)

    @property
    def asking(self) -> bool:
        """Tell whether it still waits for an answer: news of the provider make the question void."""
        return self._asking

    def begin_probing(self) -> None:
        """Try the provider out, if it still counts as failing."""
        self._asking = False
        if self._state == OPEN:
            self._probes_out = self._probe_successes = self._probe_failures = 0
            self._move(HALF_OPEN)

    def leave_probing(self) -> None:
        """Stay open: another dispatcher tries the provider out, and will tell."""
        self._asking = False
        if self._state == OPEN:
            self._elsewhere = True
            self._opened_at = self._clock()

    def reset(self) -> None:
        """Close now: a person, or another dispatcher, knows that the provider works."""
        self._asking = self._elsewhere = False
        self._outcomes.clear()
        self._consecutive = 0
        self._move(CLOSED)

    def _record_closed(self, successes: int, failures: int) -> None:
        policy = self._policy
        now = self._clock()
        self._outcomes.append((now, successes, failures))
        while self._outcomes and self._outcomes[0][0] < now - policy.window:
            self._outcomes.popleft()
        # Of a batch with both, the order is unknown: its failures do not add up to a row.
        self._consecutive = 0 if successes else self._consecutive + failures
        failed = sum(outcome[2] for outcome in self._outcomes)
        total = failed + sum(outcome[1] for outcome in self._outcomes)
        if self._consecutive >= policy.consecutive_failures or (
            total >= policy.minimum_sample and failed >= policy.failure_rate * total
        ):
            self._open()

    def _record_probes(self, successes: int, failures: int) -> None:
        policy = self._policy
        self._probe_successes += successes
        self._probe_failures += failures
        allowed_failures = policy.probes - policy.recovery_rate * policy.probes
        if self._probe_failures > allowed_failures:
            self._open()
        elif self._probe_successes + self._probe_failures >= policy.probes:
            self.reset()

    def _open(self) -> None:
        self._opened_at = self._clock()
        self._asking = self._elsewhere = False
        self._outcomes.clear()
        self._consecutive = 0
        self._move(OPEN)

    def _move(self, state: str) -> None:
        if state != self._state:
            self._state = state
            self._on_change(state)
