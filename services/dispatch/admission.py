"""How much of the work at hand may be claimed now: what breakers, governor and retry budget leave."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Final, Self

from services.dispatch.breakers import Breakers
from services.dispatch.error_rates import ErrorRates
from services.dispatch.governor import Governor
from services.dispatch.retry_budget import RetryBudget
from services.dispatch.sender_rates import SenderRates
from services.kit.breaker import CLOSED, OPEN

# Seconds until a breaker that tries its provider out, with all its probes under way, is asked again.
_PROBING_WAIT: Final = 1.0
# Seconds an envelope waits for a breaker at most before it is looked at for what has expired.
_LONGEST_WAIT: Final = 15.0
# Seconds over which retries that the budget has no room for are spread, beyond its own wait.
_RETRY_SPREAD: Final = 4.0


class Gate:
    """Asked before each claim, so that what may not be sent costs no attempt and no update of a message."""

    def __init__(
        self,
        routing: Mapping[str, Sequence[str]],
        breakers: Breakers,
        governor: Governor,
        budgets: Mapping[str, RetryBudget],
        senders: SenderRates | None = None,
    ) -> None:
        self._routing = routing
        self.breakers = breakers
        self.governor = governor
        self.senders = senders or SenderRates({})
        # By channel: what succeeds on one says nothing of the providers of another.
        self._budgets = budgets
        self._draw = random.Random()  # noqa: S311 - jitter is no secret
        self._error_rates = ErrorRates(routing)

    @property
    def clear(self) -> bool:
        """Tell whether everything may be sent that is no retry."""
        return self.breakers.all_closed and self.governor.unlimited and self.senders.unlimited

    def still_allows(self, channel: str, admission: "Admission | None") -> bool:
        """Tell whether messages of a channel that were admitted a while ago may be sent now.

        Those without an admission were to have any provider; the others have their places at some.
        """
        states = [self.breakers.of(name, channel).state for name in self._routing.get(channel, ())]
        if not states:
            return True
        return any(state == CLOSED for state in states) and (
            admission is not None or all(state == CLOSED for state in states)
        )

    def record(
        self, provider: str, channel: str, *, successes: int, failures: int = 0, first_attempts: int = 0
    ) -> None:
        """Take note of how messages ended at a provider: its breaker and the retries depend on it."""
        self.breakers.of(provider, channel).record(successes=successes, failures=failures)
        self._error_rates.record(provider, channel, successes, failures)
        budget = self._budgets.get(channel)
        if budget is not None:
            budget.earn(first_attempts, successes=successes)

    def admit(self, channel: str, wanted: int, *, retry: bool) -> "Admission":
        """Return what may be sent of `wanted` messages of a channel."""
        budget = self._budgets.get(channel) if retry else None
        allowed = wanted if budget is None else budget.take(wanted)
        admission = Admission(self, channel, budget)
        if channel not in self._routing:
            # Nobody carries it, which the postman says of each message.
            admission.limit = wanted
            return admission
        left = allowed
        for name in self._routing[channel]:
            breaker = self.breakers.of(name, channel)
            left -= admission.reserve(name, left)
            # Those after the first that works are for failures alone: a used-up rate is waited for.
            if not left or breaker.state == CLOSED:
                break
        admission.limit = allowed - left
        if budget is not None:
            budget.give_back(left)
        # What holds the rest up: the budget when the providers take all that it allows.
        admission.reason = "budget" if not left else "rate" if self._any_closed(channel) else "breaker"
        return admission

    def grant(self, provider: str, channel: str, wanted: int) -> int:
        """Return how many messages a provider may be given now; they count as under way there."""
        room = self.governor.take(provider, wanted)
        admitted = self.breakers.of(provider, channel).admit(room)
        self.governor.give_back(provider, room - admitted)
        return admitted

    def refund(self, provider: str, channel: str, count: int) -> None:
        """Take back what was granted and not used."""
        self.governor.give_back(provider, count)
        self.breakers.of(provider, channel).give_back(count)

    def delay(self, channel: str, size: int, reason: str) -> float:
        """Return the seconds to put an envelope of this size off by, with jitter."""
        if reason == "budget":
            return self._budgets[channel].wait() + self._draw.uniform(0.0, _RETRY_SPREAD)
        waits = []
        for name in self._routing.get(channel, ()):
            breaker = self.breakers.of(name, channel)
            if breaker.state == CLOSED:
                return self.governor.book(name, size) + self._draw.uniform(0.0, 0.1)
            waits.append(breaker.wait() if breaker.state == OPEN else _PROBING_WAIT)
        return min([*waits, _LONGEST_WAIT]) + self._draw.uniform(0.0, 0.5)

    def wait(self, channel: str, providers: Sequence[str]) -> float:
        """Return the seconds until one of these providers may take messages of the channel again."""
        return min((self.breakers.of(name, channel).wait() for name in providers), default=0.0)

    def _any_closed(self, channel: str) -> bool:
        return any(self.breakers.of(name, channel).state == CLOSED for name in self._routing[channel])


class Admission:
    """What one batch may send, until it ends. `limit` is the number of messages that may be claimed."""

    def __init__(self, gate: Gate, channel: str, budget: RetryBudget | None) -> None:
        self._gate = gate
        self._channel = channel
        self._budget = budget
        self._reserved: Counter[str] = Counter()
        # Given to a provider, and of those the ones whose outcome its breaker has been told.
        self._given: Counter[str] = Counter()
        self._told: Counter[str] = Counter()
        self.limit = 0
        self.claimed = 0
        self.reason = ""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give back what was not used."""
        for provider, count in self._reserved.items():
            self._gate.refund(provider, self._channel, count)
        for provider, count in self._given.items():
            self._gate.governor.end(provider, count)
            untold = count - self._told[provider]
            if untold > 0:
                self._gate.breakers.of(provider, self._channel).give_back(untold)
        if self._budget is not None:
            self._budget.give_back(max(0, self.limit - self.claimed))

    def reserve(self, provider: str, wanted: int) -> int:
        """Have a provider kept free for up to so many messages and return for how many it is."""
        granted = self._gate.grant(provider, self._channel, wanted)
        self._reserved[provider] += granted
        return granted

    def take(self, provider: str) -> bool:
        """Take a place at a provider for one message; False when there is none now."""
        if not self._reserved[provider] and not self.reserve(provider, 1):
            return False
        self._reserved[provider] -= 1
        self._given[provider] += 1
        return True

    def tell(self, provider: str, count: int) -> None:
        """Take note of outcomes that the provider's breaker was told of."""
        self._told[provider] += count
