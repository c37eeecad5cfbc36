"""Messages a second by sender: which of those that wait may go now, and when the others are looked at again.

It is asked before the claim, so that who waits keeps its lane, and has no attempt that never was. Nothing is
kept of single messages: an envelope that waits may come back to any dispatcher.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from services.dispatch.buckets import SharedBucket
from services.ledger.waiting import Waiting

# Stands for every sender that is not named.
ANY: Final = "*"

# Looks at what waits for a sender while its bucket fills once, and while it gets as many turns as there are
# messages in what waits: any dispatcher may get any of them, and must not go without one for so long that its
# bucket overflows.
_LOOKS: Final = 4
_LOOKS_AT_FEW: Final = 2
# Seconds until the next look at most: another dispatcher may have a turn by then. And where others that wait
# for the same sender are looked at first.
_LONGEST_WAIT: Final = 5.0
_LONGEST_QUEUE: Final = 60.0
# Seconds until it is looked again whether the earlier messages of a conversation have left.
_BEHIND_WAIT: Final = 1.0
# Seconds for which an urgent message that was put off has the sender's next turns kept for it, beyond its own
# wait: whoever brings it back takes that long at most. And turns in a row after which another has one.
_KEPT: Final = 1.0
_MOST_IN_A_ROW: Final = 8
# Buckets from which on those are forgotten that are full anyway.
_MANY_BUCKETS: Final = 10_000


@dataclass(slots=True)
class Turns:
    """Whose turn it is among messages that wait: their senders by id, and what keeps the others.

    `held`: senders over their rates, with how many they have waiting. `behind`: some wait for earlier ones
    of their conversations. `cut`: the limit was reached, whoever comes after it. `urgent`: they go before
    those of other lanes.
    """

    senders: dict[str, str] = field(default_factory=dict)
    held: Counter[str] = field(default_factory=Counter)
    behind: bool = False
    cut: bool = False
    urgent: bool = False

    @property
    def ids(self) -> list[str]:
        """Return the messages that may go."""
        return list(self.senders)

    @property
    def keep(self) -> bool:
        """Tell whether the rates of senders keep messages waiting."""
        return self.behind or bool(self.held)


class _Share:
    """This dispatcher's part of one sender's rate, and when what waits for the sender is looked at."""

    def __init__(self, bucket: SharedBucket, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.bucket = bucket
        self._used_at = clock()
        # Before this time no look at what waits is needed: there is one already.
        self._looked_at_from = self._used_at
        # Before this time turns are kept for urgent messages, unless they have had as many in a row.
        self._kept_until = self._used_at
        self._in_a_row = 0

    def use(self) -> None:
        """Take note that it is needed."""
        self._used_at = self._clock()

    def take(self, *, urgent: bool) -> bool:
        """Take a turn; False when there is none now."""
        if not urgent and self._is_kept():
            return False
        if not self.bucket.take(1):
            return False
        self._in_a_row = self._in_a_row + 1 if urgent else 0
        return True

    def keep(self) -> float:
        """Keep the next turns for an urgent message and return the seconds until it is looked at again."""
        wait = min(self.bucket.wait(), _LONGEST_WAIT)
        self._kept_until = self._clock() + wait + _KEPT
        return wait

    def next_look(self) -> float:
        """Return the seconds until what waits may be looked at next."""
        now = self._clock()
        wait = max(self.bucket.wait(), self._kept_until - now if self._is_kept() else 0.0)
        return max(min(wait, _LONGEST_WAIT), min(self._looked_at_from - now, _LONGEST_QUEUE))

    def _is_kept(self) -> bool:
        return self._clock() < self._kept_until and self._in_a_row < _MOST_IN_A_ROW

    def book_look(self, left: int) -> float:
        """Return the seconds until the next look, at so many messages, and have those after it come later."""
        wait = self.next_look()
        few = left / self.bucket.rate / _LOOKS_AT_FEW
        self._looked_at_from = self._clock() + wait + min(self._filling / _LOOKS, few, _LONGEST_WAIT)
        return wait

    def is_full(self) -> bool:
        """Tell whether it says no more than a new one would."""
        return self._clock() > max(self._used_at + self._filling, self._looked_at_from)

    @property
    def _filling(self) -> float:
        return self.bucket.burst / self.bucket.rate


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
        self._clock = clock
        self._dispatchers = dispatchers
        self._shares: dict[str, _Share] = {}
        self._forget_at = _MANY_BUCKETS
        self.unlimited = not rates

    def choose(self, waiting: Sequence[Waiting], limit: int, *, urgent: bool = False) -> Turns:
        """Return which of waiting messages may go now, at most `limit`; their turns are used.

        The urgent go before the others of their sender, but for one turn in nine.
        """
        turns = Turns(urgent=urgent)
        # Nobody goes before an earlier message of the same conversation.
        kept: set[str] = set()
        for message in waiting:
            if len(turns.senders) >= limit:
                turns.cut = True
                break
            follows = message.conversation_id in kept
            if not follows and not message.behind and self._take(message.sender, urgent=urgent):
                turns.senders[message.id] = message.sender
                continue
            if message.behind:
                turns.behind = True
            elif not follows or message.sender in turns.held:
                turns.held[message.sender] += 1
            kept.add(message.conversation_id)
        return turns

    def delay(self, turns: Turns) -> float:
        """Return the seconds after which those that have to wait are to be looked at again."""
        shares = [(sender, share) for sender in turns.held if (share := self._share(sender)) is not None]
        if not shares:
            return _BEHIND_WAIT
        if turns.urgent:
            delay = min(share.keep() for _, share in shares)
        else:
            # The others come along, and would be late if their next looks were booked as well.
            _, sender, share = min((share.next_look(), sender, share) for sender, share in shares)
            delay = share.book_look(turns.held[sender])
        return min(delay, _BEHIND_WAIT) if turns.behind else delay

    def return_unused(self, turns: Turns, used: Iterable[str]) -> None:
        """Return the turns of messages that were not claimed after all."""
        unused = turns.senders.keys() - used
        for sender, count in Counter(turns.senders[message_id] for message_id in unused).items():
            self.give_back(sender, count)

    def give_back(self, sender: str, count: int = 1) -> None:
        """Return turns that were not used."""
        share = self._share(sender)
        if share is not None:
            share.bucket.give_back(count)

    def _take(self, sender: str, *, urgent: bool) -> bool:
        share = self._share(sender)
        return share is None or share.take(urgent=urgent)

    def _share(self, sender: str) -> _Share | None:
        """Return a sender's share, as it is now; None where there is no rate for it."""
        rate = self._rates.get(sender) or self._rates.get(ANY)
        if rate is None:
            return None
        share = self._shares.get(sender)
        if share is None:
            self._forget()
            bucket = SharedBucket(rate, clock=self._clock, dispatchers=self._dispatchers)
            share = self._shares[sender] = _Share(bucket, self._clock)
        share.use()
        return share

    def _forget(self) -> None:
        """Forget who has not sent for long, once there are many."""
        if len(self._shares) >= self._forget_at:
            self._shares = {sender: one for sender, one in self._shares.items() if not one.is_full()}
            self._forget_at = max(_MANY_BUCKETS, 2 * len(self._shares))
