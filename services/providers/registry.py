"""The providers there are, by name. Routes pick from them; nothing registers itself."""

from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from typing import Final

from services.kit.config import Settings, WrongSettingError
from services.kit.errors import InvalidRequestError
from services.providers.base import Provider
from services.providers.sendgrid import from_settings as _sendgrid
from services.providers.sendgrid import has_credentials as _has_sendgrid
from services.providers.simulator import SimulatorConfig, SimulatorProvider
from services.providers.simulator_profile import read_profiles
from services.providers.smtp import from_settings as _smtp
from services.providers.twilio import from_settings as _twilio
from services.providers.twilio import has_credentials as _has_twilio

# Group under which other packages offer factories: `name = "package.module:factory"`.
ENTRY_POINTS: Final = "posthouse.providers"

Factory = Callable[[Settings], Provider]


def _simulator(settings: Settings) -> Provider:
    if settings.simulator_secret is None or not settings.simulator_secret.get_secret_value():
        raise WrongSettingError(
            "POSTHOUSE_SIMULATOR_SECRET: must be set when POSTHOUSE_ROUTES uses the simulator"
        )
    try:
        profiles = read_profiles(settings.simulator_profile, _SIMULATOR_CHANNELS)
    except InvalidRequestError as error:
        raise WrongSettingError(f"POSTHOUSE_SIMULATOR_PROFILE: {error.message}") from error
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
    "sendgrid": _sendgrid,
    "simulator": _simulator,
    "smtp": _smtp,
    "twilio": _twilio,
}

# Providers whose webhooks are taken without any route to them, once their credentials are set.
_CREDENTIALS: Final[Mapping[str, Callable[[Settings], bool]]] = {
    "sendgrid": _has_sendgrid,
    "twilio": _has_twilio,
}


def known_providers() -> frozenset[str]:
    """Return the names of all providers there are, whether or not they are in use."""
    return frozenset([*FACTORIES, *(entry_point.name for entry_point in entry_points(group=ENTRY_POINTS))])


def enabled_providers(settings: Settings) -> list[str]:
    """Return the names of the providers whose webhooks are taken: routes' own, and those with credentials."""
    routed = [name for names in settings.routing.values() for name in names]
    # Where nothing is verified no credentials are needed.
    able = [name for name, has in _CREDENTIALS.items() if has(settings) or not settings.webhook_verification]
    return list(dict.fromkeys([*routed, *able]))


def build_providers(settings: Settings, names: Iterable[str]) -> dict[str, Provider]:
    """Return the named providers, not yet started.

    Raises WrongSettingError, naming the setting at fault, for a name nobody knows and for what a provider
    misses.
    """
    return {name: _factory(name)(settings) for name in dict.fromkeys(names)}


def check_routing(routing: Mapping[str, Iterable[str]], providers: Mapping[str, Provider]) -> None:
    """Raise WrongSettingError when a route sends a channel to a provider that does not carry it."""
    for channel, names in routing.items():
        for name in names:
            if channel not in providers[name].channels:
                raise WrongSettingError(f"POSTHOUSE_ROUTES: provider {name!r} does not carry {channel!r}")


def _factory(name: str) -> Factory:
    factory = FACTORIES.get(name)
    if factory is not None:
        return factory
    for entry_point in entry_points(group=ENTRY_POINTS, name=name):
        loaded: Factory = entry_point.load()
        return loaded
    raise WrongSettingError(
        f"POSTHOUSE_ROUTES: there is no provider {name!r}; known are {', '.join(sorted(FACTORIES))}, "
        f"and what installed packages offer under the entry points {ENTRY_POINTS!r}"
    )
