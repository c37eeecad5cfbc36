"""What the settings must say before a server may be reached from other machines."""

import ipaddress

from services.kit.config import Settings, WrongSettingError


def is_loopback(host: str) -> bool:
    """Tell whether an address can be reached from its own machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_exposure(settings: Settings) -> None:
    """Raise WrongSettingError when a server would be open to other machines without authentication."""
    if not settings.authenticates and not is_loopback(settings.host):
        raise WrongSettingError(
            f"POSTHOUSE_HOST: {settings.host} can be reached from other machines, and whoever reaches it may "
            "do anything: set POSTHOUSE_API_KEY_SECRET or POSTHOUSE_JWT_ISSUER, or bind to 127.0.0.1"
        )
