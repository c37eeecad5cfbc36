"""Messages a second by sender: who is over the rate is given a time of its own to come back at.

It is asked before the claim, so that who waits keeps its lane, and has no attempt that never was.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from services.ledger.waiting import Waiting

# Stands for every sender that is not named.
ANY: Final = "*"

# Seconds a message waits at most before it is looked at again: rates may have changed by then.
_LONGEST_WAIT: Final = 300.0
# Seconds a message may come back early.
_EARLY: Final = 0.05
# Seconds until it is looked again whether the earlier messages of a conversation have left.
_BEHIND_WAIT: Final = 1.0
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


@dataclass(slots=True)
class Turns:
    """Whose turn it is among messages that wait: their senders by id; `wait` is None when nobody is held."""

    senders: dict[str, str] = field(default_factory=dict)
    wait: float | None = None

    @property
    def ids(self) -> list[str]:
        """Return the messages that may go."""
        return list(self.senders)


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

    def choose(self, waiting: Sequence[Waiting], limit: int) -> Turns:
        """Return which of waiting messages may go now, at most `limit`, and when the first of the others."""
        turns = Turns()
        # Nobody goes before an earlier message of the same conversation.
        held: set[str] = set()
        for message in waiting:
            if len(turns.senders) >= limit:
                break
            wait = self.hold(message.id, message.sender)
            if not wait and (message.behind or message.conversation_id in held):
                self.give_back(message.sender)
                wait = _BEHIND_WAIT
            if not wait:
                turns.senders[message.id] = message.sender
                continue
            held.add(message.conversation_id)
            turns.wait = wait if turns.wait is None else min(wait, turns.wait)
        return turns

    def return_unused(self, turns: Turns, used: Iterable[str]) -> None:
        """Return the turns of messages that were not claimed after all."""
        unused = turns.senders.keys() - used
        for sender, count in Counter(turns.senders[message_id] for message_id in unused).items():
            for _ in range(count):
                self.give_back(sender)

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
