"""Puts the events of each message in order and drops repeats, by the sequence that every event has.

The log has an event where it was published. Two processes may publish the events of one message the wrong
way round, and a sweeper may publish one again. The sequence is without gaps, and an event is committed
after those before it. So whatever is missing when an event comes is in the ledger already: it is taken from
there, and dropped when it comes by the log.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from posthouse.v1 import event_pb2 as event_pb
from services.ledger.event_batches import sequence_of

# Places kept before each event of the log, for those that have to come before it.
STEP = 64
# Messages whose newest sequence is remembered.
_REMEMBERED = 131_072
# A message may have been announced this long after the time in its id, in milliseconds.
_SLACK = 2000

EventKey = tuple[str, int]


class Placed(NamedTuple):
    """An event, with the sequence of its message of the log and its place therein."""

    sequence: int
    offset: int
    event: event_pb.Event


class Ordering:
    """What was seen of the newest messages. One of them goes through the log once, from some point on."""

    def __init__(self, remembered: int = _REMEMBERED) -> None:
        self._remembered = remembered
        # By message or other event: the newest sequence that went out.
        self._newest: OrderedDict[int, int] = OrderedDict()
        # Events that did not go out although later ones of their message did.
        self._expected: dict[int, set[int]] = {}
        # Messages made after this time in milliseconds are known, if any event of theirs has come.
        self._known_since: int | None = None

    def missing(self, placed: Sequence[Placed]) -> list[EventKey]:
        """Return the events that have to come before some of these and are not among them."""
        if self._known_since is None and placed:
            self._known_since = placed[0].event.create_time.ToMilliseconds() + _SLACK
        keys = [key for item in placed if (key := _key(item.event)) is not None]
        here = set(keys)
        # One after the other, as they will be arranged: a message from before begins with the first of them.
        reached: dict[str, int] = {}
        missing: list[EventKey] = []
        for message_id, number in keys:
            newest = reached.get(message_id, self._newest.get(hash(message_id)))
            earlier = ((message_id, before) for before in self._before(message_id, number, newest))
            missing += [key for key in earlier if key not in here]
            reached[message_id] = max(number, newest or 0)
        return missing

    def arrange(
        self, placed: Sequence[Placed], found: dict[EventKey, event_pb.Event]
    ) -> Iterable[tuple[Placed, bool]]:
        """Yield what goes out in order, and drop what has gone out; `found` has what was missing.

        The flag tells of an event put before its place. What stays missing goes out when it comes.
        """
        here = dict(found)
        here.update((key, item.event) for item in placed if (key := _key(item.event)) is not None)
        for item in placed:
            key = _key(item.event)
            if key is None:
                if self._first_time(hash(item.event.id)):
                    yield item, False
                continue
            message_id, number = key
            mark = hash(message_id)
            if number <= self._newest.get(mark, 0):
                late = self._expected.get(mark)
                if late and number in late:
                    late.remove(number)
                    yield item, False
                continue
            for earlier in self._before(message_id, number, self._newest.get(mark)):
                event = here.get((message_id, earlier))
                if event is None:
                    self._expected.setdefault(mark, set()).add(earlier)
                else:
                    yield Placed(item.sequence, item.offset - (number - earlier), event), True
            self._note(mark, number, message_id)
            yield item, False

    def _before(self, message_id: str, number: int, newest: int | None) -> range:
        """Return the sequences of a message from the `newest` that went out, if any, to one of its events."""
        if newest is None:
            if self._known_since is None or _made(message_id) < self._known_since:
                return range(0)
            newest = 0
        return range(max(newest + 1, number - STEP + 1), number)

    def _first_time(self, mark: int) -> bool:
        if mark in self._newest:
            return False
        self._note(mark, 1, "")
        return True

    def _note(self, mark: int, number: int, message_id: str) -> None:
        self._newest[mark] = number
        self._newest.move_to_end(mark)
        if len(self._newest) <= self._remembered:
            return
        for _ in range(self._remembered // 8 + 1):
            forgotten, _ = self._newest.popitem(last=False)
            self._expected.pop(forgotten, None)
        # What is forgotten is older than what has just come; all that old may be forgotten.
        if message_id and self._known_since is not None:
            self._known_since = max(self._known_since, _made(message_id) - _SLACK)


def _key(event: event_pb.Event) -> EventKey | None:
    """Return message id and sequence of a message's event, None for others."""
    sequence = sequence_of(event)
    return (event.message_id, sequence) if sequence else None


def _made(message_id: str) -> int:
    """Return the time in a UUIDv7 in milliseconds, 0 for what is none."""
    if message_id[14:15] != "7":
        return 0
    try:
        return int(message_id[:8] + message_id[9:13], 16)
    except ValueError:
        return 0
