"""Fans a log out to subscriptions in memory: a ring of its newest entries, and an index of who wants what."""

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from services.kit.positions import Position

Item = TypeVar("Item")

# Key of the subscriptions that want every entry.
EVERYTHING = ""


class Entry(Generic[Item]):
    """One entry of the log; `keys` are what it may be asked for by. Without an item it tells of a gap."""

    __slots__ = ("item", "keys", "position", "rendered")

    def __init__(self, position: Position, keys: tuple[str, ...], item: Item | None) -> None:
        self.position = position
        self.keys = keys
        self.item = item
        # What is sent for it, made by the first who needs it and shared by all.
        self.rendered: bytes | None = None


class Subscription(Generic[Item]):
    """What one watcher wants and has not taken yet. Made by Fanout.subscribe."""

    __slots__ = ("after", "also", "key", "overflowed", "pending", "wake")

    def __init__(self, key: str, also: str, after: Position, wake: Callable[[], None]) -> None:
        self.key = key
        self.also = also
        self.after = after
        self.wake = wake
        self.pending: list[Entry[Item]] = []
        # More came than may wait. Nothing is added any more: take what there is, and resume after it.
        self.overflowed = False

    def take(self) -> list[Entry[Item]]:
        """Return what has come since the last time."""
        taken, self.pending = self.pending, []
        return taken


class Fanout(Generic[Item]):
    """Keeps the newest `ring` entries, and hands new ones to subscriptions, at most `backlog` to each.

    `head` is how far the log was read, None while there is no log. Everything after `_floor` is in the ring.
    """

    def __init__(self, *, ring: int, backlog: int) -> None:
        self._ring: deque[Entry[Item]] = deque()
        self._size = ring
        self._backlog = backlog
        self._by_key: dict[str, set[Subscription[Item]]] = {}
        self.head: Position | None = None
        self._floor: Position | None = None
        self.count = 0

    def restart(self, position: Position) -> None:
        """Begin anew after a position, of another log even; every subscription is told of the gap."""
        self._ring.clear()
        self.head = self._floor = position
        gap = Entry[Item](position, (), None)
        for subscription in self.subscriptions():
            if not subscription.overflowed:
                subscription.pending.append(gap)
                subscription.after = position
                subscription.wake()

    def forget(self) -> None:
        """Forget the log; `restart` begins anew."""
        self._ring.clear()
        self.head = self._floor = None

    def publish(self, entries: Sequence[Entry[Item]], head: Position) -> None:
        """Add entries in the order of the log, `head` being how far they go, and wake who wants them."""
        touched: dict[Subscription[Item], None] = {}
        for entry in entries:
            self._ring.append(entry)
            for key in (EVERYTHING, *dict.fromkeys(entry.keys)):
                for subscription in self._by_key.get(key, ()):
                    if self._offer(subscription, entry):
                        touched[subscription] = None
        while len(self._ring) > self._size:
            self._floor = self._ring.popleft().position
        self.head = head
        for subscription in touched:
            subscription.wake()

    def covers(self, after: Position) -> bool:
        """Tell whether all that came after a position is in the ring, or still to come."""
        return self._floor is not None and after >= self._floor and after.epoch == self._floor.epoch

    def subscribe(
        self, key: str, also: str, *, after: Position, wake: Callable[[], None]
    ) -> Subscription[Item]:
        """Return a subscription to what comes after a position and has `key`, and `also` unless it is empty.

        The ring must cover the position. What of it is in the ring is pending at once, however much it is.
        """
        subscription = Subscription[Item](key, also, after, wake)
        if self.head is None or after < self.head:
            for entry in self._since(after):
                if key in (EVERYTHING, *entry.keys) and (not also or also in entry.keys):
                    subscription.pending.append(entry)
        self._by_key.setdefault(key, set()).add(subscription)
        self.count += 1
        return subscription

    def unsubscribe(self, subscription: Subscription[Item]) -> None:
        """Forget a subscription; doing it again changes nothing."""
        same = self._by_key.get(subscription.key)
        if same and subscription in same:
            same.remove(subscription)
            self.count -= 1
            if not same:
                del self._by_key[subscription.key]

    def subscriptions(self) -> list[Subscription[Item]]:
        """Return every subscription there is."""
        return [each for same in self._by_key.values() for each in same]

    def _offer(self, subscription: Subscription[Item], entry: Entry[Item]) -> bool:
        """Add an entry that has the key; tell whether there is something new to take."""
        if subscription.overflowed or entry.position <= subscription.after:
            return False
        if subscription.also and subscription.also not in entry.keys:
            return False
        if len(subscription.pending) >= self._backlog:
            subscription.overflowed = True
        else:
            subscription.pending.append(entry)
        return True

    def _since(self, after: Position) -> Iterator[Entry[Item]]:
        newest = itertools.takewhile(lambda entry: entry.position > after, reversed(self._ring))
        return reversed(list(newest))
