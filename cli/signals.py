"""The signals that ask `posthouse up` to stop, and how often they have come."""

import signal
import time
from types import FrameType

_POLL = 0.1


class StopRequestedError(Exception):
    """The user asked to stop before the start was complete."""


class StopSignals:
    """Counts SIGINT, SIGTERM and SIGHUP from its creation on. Create it in the main thread."""

    def __init__(self) -> None:
        self.count = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)

    @property
    def requested(self) -> bool:
        """Tell whether it is time to stop."""
        return self.count > 0

    def hastened(self) -> bool:
        """Tell whether it is time to stop without waiting for anything."""
        return self.count > 1

    def pause(self, seconds: float = _POLL) -> None:
        """Sleep a moment; raise StopRequestedError when asked to stop."""
        if self.requested:
            raise StopRequestedError
        time.sleep(seconds)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
