"""Which provider a message goes to."""

from collections.abc import Mapping, Sequence

from services.dispatch.retry import Route
from services.ledger.claims import ClaimedMessage
from services.providers.base import Provider


class Router:
    """Picks a channel's provider: the first of its route."""

    def __init__(self, routing: Mapping[str, Sequence[str]], providers: Mapping[str, Provider]) -> None:
        self._routes = {
            channel: [
                Route(name, f"position {position} of the route of {channel}", providers[name].inquiry_delay)
                for position, name in enumerate(names, 1)
            ]
            for channel, names in routing.items()
        }

    def choose(self, message: ClaimedMessage) -> Route | None:
        """Return the provider for a message, None when its channel has no route (any more)."""
        routes = self._routes.get(message.channel)
        return routes[0] if routes else None

    def candidates(self, channel: str) -> list[Route]:
        """Return every provider that may have been given a message of the channel."""
        return self._routes.get(channel, [])

    @property
    def longest_inquiry_delay(self) -> float:
        """Return the seconds after which every provider can be asked about a cut-short attempt."""
        return max((route.inquiry_delay for routes in self._routes.values() for route in routes), default=0.0)
