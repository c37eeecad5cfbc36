"""Messages a second by sender: who is over the rate is given a time of its own to come back at."""

import time
from collections.abc import Callable, Mapping
from typing import Final

# Stands for every sender that is not named.
ANY: Final = "*"

# Seconds a message waits at most before it is looked at again: rates may have changed by then.
_LONGEST_WAIT: Final = 300.0
# Seconds a message may come back early.
_EARLY: Final = 0.05
# Times given out that are remembered; beyond it the oldest are forgotten, and their messages get new ones.
_MOST_SLOTS: Final = 200_000


class _SharedTime:
    """Seconds that pass more slowly the more dispatchers there are: what is due in them keeps to a share."""

    def __init__(self, clock: Callable[[], float], dispatchers: Callable[[], int]) -> None:
        self._clock = clock
        self._dispatchers = dispatchers
        self.sharers = 1
        self._read_at = clock()
        self._passed = 0.0

    def now(self) -> float:
        moment = self._clock()
        # What has passed since the last look has passed at the old pace.
        self._passed += (moment - self._read_at) / self.sharers
        self._read_at = moment
        self.sharers = self._dispatchers()
        return self._passed


class SenderRates:
    """Keeps each sender within its rate, this dispatcher's share of it; a second's worth may go at once.

    `dispatchers` tells of how many this is one. `clock` returns monotonic seconds.
    """

    def __init__(
        self,
        rates: Mapping[str, float],
        *,
        clock: Callable[[], float] = time.monotonic,
        dispatchers: Callable[[], int] = lambda: 1,
    ) -> None:
        self._rates = rates
        self._time = _SharedTime(clock, dispatchers)
        # By sender, when a message that comes now would be due if none might go at once; in shared time.
        self._due: dict[str, float] = {}
        self._slots: dict[str, float] = {}
        self.unlimited = not rates

    def hold(self, message_id: str, sender: str) -> float:
        """Return the seconds a message has to wait for its turn; 0 when it may go, which uses its turn up."""
        rate = self._rates.get(sender) or self._rates.get(ANY)
        if rate is None:
            return 0.0
        now = self._time.now()
        sharers = self._time.sharers
        slot = self._slots.pop(message_id, None)
        if slot is None:
            due = max(now, self._due.get(sender, 0.0))
            slot = due - max(0.0, rate / sharers - 1.0) / rate
            self._due[sender] = due + 1.0 / rate
        wait = (slot - now) * sharers
        if wait <= _EARLY:
            return 0.0
        self._remember(message_id, slot)
        return min(wait, _LONGEST_WAIT)

    def give_back(self, sender: str) -> None:
        """Return a turn that was not used."""
        rate = self._rates.get(sender) or self._rates.get(ANY)
        if rate is not None and sender in self._due:
            self._due[sender] -= 1.0 / rate

    def _remember(self, message_id: str, slot: float) -> None:
        if len(self._slots) >= _MOST_SLOTS:
            for oldest in list(self._slots)[: _MOST_SLOTS // 10]:
                del self._slots[oldest]
            now = self._time.now()
            self._due = {sender: due for sender, due in self._due.items() if due > now}
        self._slots[message_id] = slot
