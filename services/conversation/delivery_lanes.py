"""What a process has claimed for an endpoint: in line, under way, and on its way into the ledger."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from posthouse.v1 import event_pb2 as event_pb
from services.conversation.event_deliveries import Claimed, Share
from services.kit.ids import NO_ID

# As many are claimed ahead as an endpoint takes in so many seconds, and so many times what may be under way
# at most: a claim costs nearly the same for one as for a hundred.
_AHEAD_SECONDS: Final = 1.0
_AHEAD: Final = 8


class Waiting(NamedTuple):
    """A delivery that is claimed, its event, and until when, on the loop's clock, posting it may begin."""

    claimed: Claimed
    event: event_pb.Event | None
    until: float


@dataclass(slots=True)
class Lane:
    """The deliveries of one endpoint; `concurrency` of them are under way at the same time at most."""

    concurrency: int
    line: deque[Waiting] = field(default_factory=deque)
    under_way: int = 0
    # All that is claimed: in line, under way, or to be settled.
    held: int = 0
    # The conversation that the last claim came to; those after it are looked at next.
    place: str = NO_ID
    # What it may hold at most while others want their share, if that is more than may be under way.
    most: int = 0
    _size: int = 0
    _found: int = 0

    @property
    def share(self) -> Share:
        """Return what to claim now."""
        return Share(self.room, self.place, self.held)

    @property
    def busy(self) -> bool:
        """Tell whether it has work, or had some at the last claim."""
        return self.held > 0 or self._found > 0

    @property
    def room(self) -> int:
        """Return how many may be claimed now."""
        return max(0, max(min(self._size, self.most), self.concurrency) - self.held)

    @property
    def low(self) -> bool:
        """Tell whether it is worth claiming more."""
        return self.room >= self.held

    def claimed(self, share: Share, found: Sequence[Claimed], *, cut: bool) -> bool:
        """Learn what came of a claim; tell whether there may be more in the conversations before it.

        `cut`: there was no room for all that was found, whoever's it was.
        """
        self._found = len(found)
        firsts = [each.conversation_id for each in found if not each.attempt_count]
        whole = len(firsts) < share.room and not cut
        self.place = NO_ID if whole else max(firsts, default=share.place)
        return whole and share.place != NO_ID

    def add(self, waiting: Waiting) -> None:
        """Put one at the end of the line."""
        self.held += 1
        self.line.append(waiting)

    def take(self, now: float) -> Iterator[Waiting]:
        """Yield what may be posted now, which is under way then.

        What has waited for too long would outlast its lease: it is left, and claimed again when that ends.
        """
        while self.line and self.under_way < self.concurrency:
            waiting = self.line.popleft()
            if now > waiting.until:
                self.held -= 1
            else:
                self.under_way += 1
                yield waiting

    def answered(self, seconds: float) -> None:
        """Learn how fast the endpoint is."""
        share = _AHEAD_SECONDS / max(seconds, 0.001)
        self._size = self.concurrency * int(min(_AHEAD, max(1.0, share)))

    def clear(self) -> list[Waiting]:
        """Empty the line, and return what stood in it."""
        left = list(self.line)
        self.held -= len(left)
        self.line.clear()
        return left
