"""Which provider a message goes to: the first of its route that works, for this message and at all."""

from collections.abc import Mapping, Sequence

from services.dispatch.admission import Admission
from services.dispatch.history import NOTHING, History
from services.dispatch.retry import Route
from services.kit.routes import Choice, Routes, Rule
from services.ledger.claims import ClaimedMessage
from services.providers.base import Provider


class Router:
    """Picks providers: after `failover_after` failures of a message at one, the next of its route."""

    def __init__(
        self,
        routes: Routes,
        providers: Mapping[str, Provider],
        *,
        failover_after: int = 1,
    ) -> None:
        self._failover_after = failover_after
        self._routes = routes
        self._delays = {
            name: providers[name].inquiry_delay for names in routes.providers.values() for name in names
        }
        # The order of channels whose messages all take the same one: the rule, most of the time.
        self._fixed = {
            channel: self._ways(rule, "")
            for channel in routes.providers
            if (rule := routes.only(channel)) is not None
        }

    def providers_of(self, message: ClaimedMessage) -> list[str]:
        """Return the providers of the message's route, in its order."""
        return [route.provider for route in self._of(message)]

    def choose(
        self, message: ClaimedMessage, history: History = NOTHING, admission: Admission | None = None
    ) -> Route | None:
        """Return the provider for a message; None when it has no route, or none may be used now.

        Without an admission every provider may be used. A provider that has refused the message for a
        fault of its own does not get it again, unless all have; of the others the one with the fewest
        rounds of failures goes first, and of those the first of the route.
        """
        routes = self._fixed.get(message.channel) or self._of(message)
        if not routes:
            return None
        if history is NOTHING and admission is None:
            return routes[0]
        willing = [route for route in routes if route.provider not in history.refused] or routes
        ranked = sorted(
            willing, key=lambda route: history.failures.get(route.provider, 0) // self._failover_after
        )
        for route in ranked:
            if admission is None or admission.take(route.provider):
                return self._explained(route, routes, ranked, history)
        return None

    def has_other(self, message: ClaimedMessage, history: History, provider: str) -> bool:
        """Tell whether another provider is left once this one, too, has refused the message."""
        return any(
            route.provider != provider and route.provider not in history.refused
            for route in self._of(message)
        )

    def candidates(self, channel: str) -> list[Route]:
        """Return every provider that may have been given a message of the channel, by whatever route."""
        return [
            Route(name, f"a provider of {channel}", self._delays[name])
            for name in self._routes.providers.get(channel, ())
        ]

    @property
    def longest_inquiry_delay(self) -> float:
        """Return the seconds after which every provider can be asked about a cut-short attempt."""
        return max(self._delays.values(), default=0.0)

    def _of(self, message: ClaimedMessage) -> list[Route]:
        fixed = self._fixed.get(message.channel)
        if fixed is not None:
            return fixed
        rule = self._routes.find(message.channel, message.sender, message.recipient)
        return [] if rule is None else self._ways(rule, message.id)

    def _ways(self, rule: Rule, key: str) -> list[Route]:
        return [
            Route(choice.provider, _reason(rule, choice), self._delays[choice.provider])
            for choice in rule.order(key)
        ]

    def _explained(
        self, chosen: Route, routes: Sequence[Route], ranked: Sequence[Route], history: History
    ) -> Route:
        """Return the chosen route with the reasons why not those before it."""
        passed = []
        unavailable = ranked[: ranked.index(chosen)]
        for route in routes[: routes.index(chosen)]:
            failures = history.failures.get(route.provider, 0)
            if route in unavailable:
                passed.append(f"{route.provider} is not taking any at the moment")
            elif route.provider in history.refused:
                passed.append(f"{route.provider} refused it for a fault of its own")
            else:
                passed.append(f"{route.provider} failed {failures} times")
        if not passed:
            return chosen
        return Route(chosen.provider, "; ".join([chosen.reason, *passed]), chosen.inquiry_delay)


def _reason(rule: Rule, choice: Choice) -> str:
    share = f", share {choice.share}" if choice.share else ""
    return f"position {choice.position} of the route of {rule.name}{share}"
