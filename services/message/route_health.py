"""What intake knows of the breakers of dispatch: whether a route is known to be failing altogether."""

import time
from collections.abc import Callable
from typing import NoReturn

from posthouse.v1 import event_pb2 as event_pb
from services.kit import enum_names
from services.kit.breaker_news import OPENED, age_of, follow_breakers
from services.kit.bus import Bus
from services.kit.errors import UnavailableError
from services.kit.routes import Routes, Rule

# Seconds beyond the cool-down after which an open breaker of which nothing more is heard counts as unknown.
_GRACE = 1.0


class RouteHealth:
    """Follows the breakers' news. What is not known, for want of NATS or of dispatchers, is not failing.

    `cool_down` is the dispatchers' own, in seconds; `clock` returns monotonic seconds.
    """

    def __init__(
        self, routes: Routes, *, cool_down: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._places = [(name, channel) for channel, names in routes.providers.items() for name in names]
        self._cool_down = cool_down
        self._clock = clock
        # Until when each open breaker lets nothing through.
        self._open: dict[tuple[str, str], float] = {}

    async def run(self, bus: Bus) -> NoReturn:
        """Follow the news; cancel to end it."""
        await follow_breakers(bus, self._places, self.hear)

    def hear(self, event: event_pb.Event) -> None:
        """Take note of a change."""
        place = (event.provider, enum_names.CHANNEL.word(event.channel))
        if event.type == OPENED:
            self._open[place] = self._clock() + self._cool_down - age_of(event)
        else:
            self._open.pop(place, None)

    def failing(self, rule: Rule) -> UnavailableError | None:
        """Return the refusal of a caller who does not want to wait; None unless all of a route fail."""
        now = self._clock()
        waits = [self._open.get((name, rule.channel), 0.0) - now for name in rule.providers]
        if min(waits) <= -_GRACE:
            return None
        return UnavailableError(
            f"every provider of {rule.name} is failing at the moment",
            reason="ROUTE_UNAVAILABLE",
            retry_after=max(1.0, min(waits)),
        )
