"""The providers there are, by name. Routes pick from them; nothing registers itself."""

from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from typing import Final

from services.kit.config import Settings
from services.kit.errors import InvalidRequestError
from services.providers.base import Provider
from services.providers.simulator import SimulatorConfig, SimulatorProvider
from services.providers.simulator_profile import read_profiles

# Group under which other packages offer factories: `name = "package.module:factory"`.
ENTRY_POINTS: Final = "posthouse.providers"

Factory = Callable[[Settings], Provider]


def _simulator(settings: Settings) -> Provider:
    if settings.simulator_secret is None or not settings.simulator_secret.get_secret_value():
        raise ValueError("POSTHOUSE_SIMULATOR_SECRET: must be set when POSTHOUSE_ROUTES uses the simulator")
    try:
        profiles = read_profiles(settings.simulator_profile, _SIMULATOR_CHANNELS)
    except InvalidRequestError as error:
        raise ValueError(f"POSTHOUSE_SIMULATOR_PROFILE: {error.message}") from error
    return SimulatorProvider(
        SimulatorConfig(
            path=settings.simulator_path,
            secret=settings.simulator_secret.get_secret_value(),
            webhook_url=f"{settings.webhook_base_url.rstrip('/')}/api/v1/webhooks/simulator",
            channels=_SIMULATOR_CHANNELS,
            profiles=profiles,
        )
    )


_SIMULATOR_CHANNELS: Final = frozenset({"sms", "mms", "email", "voice"})

FACTORIES: Final[Mapping[str, Factory]] = {
    "simulator": _simulator,
}


def build_providers(settings: Settings, names: Iterable[str]) -> dict[str, Provider]:
    """Return the named providers, not yet started.

    Raises ValueError, naming the setting at fault, for a name nobody knows and for what a provider
    misses.
    """
    return {name: _factory(name)(settings) for name in dict.fromkeys(names)}


def check_routing(routing: Mapping[str, Iterable[str]], providers: Mapping[str, Provider]) -> None:
    """Raise ValueError when a route sends a channel to a provider that does not carry it."""
    for channel, names in routing.items():
        for name in names:
            if channel not in providers[name].channels:
                raise ValueError(f"POSTHOUSE_ROUTES: provider {name!r} does not carry {channel!r}")


def _factory(name: str) -> Factory:
    factory = FACTORIES.get(name)
    if factory is not None:
        return factory
    for entry_point in entry_points(group=ENTRY_POINTS, name=name):
        loaded: Factory = entry_point.load()
        return loaded
    raise ValueError(
        f"POSTHOUSE_ROUTES: there is no provider {name!r}; known are {', '.join(sorted(FACTORIES))}, "
        f"and what installed packages offer under the entry points {ENTRY_POINTS!r}"
    )
