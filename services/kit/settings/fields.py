"""What the fields of settings are made of."""

from typing import Annotated

from pydantic import AliasChoices, Field, SecretStr

from services.kit.bulk_limits import parse_bulk_limits
from services.kit.networks import parse_networks
from services.kit.provider_limits import parse_provider_limits, parse_sender_limits
from services.kit.routes import parse_routes
from services.kit.sender_pools import parse_sender_pools
from services.kit.unknown_policy import parse_unknown_policy

Port = Annotated[int, Field(ge=1, le=65535)]


def world(name: str) -> AliasChoices:
    """Return the alias of a setting whose name the world knows; it carries no prefix."""
    return AliasChoices(name, name.lower())


def checked_networks(text: str) -> str:
    """Return the text of networks as it is; raises ValueError that says what is wrong with it."""
    parse_networks(text)
    return text


def checked_provider_limits(text: str) -> str:
    """Return the text of provider limits as it is; raises ValueError that says what is wrong with it."""
    parse_provider_limits(text)
    return text


def checked_sender_limits(text: str) -> str:
    """Return the text of sender limits as it is; raises ValueError that says what is wrong with it."""
    parse_sender_limits(text)
    return text


def checked_sender_pools(text: str) -> str:
    """Return the text of sender pools as it is; raises ValueError that says what is wrong with it."""
    parse_sender_pools(text)
    return text


def checked_routes(text: str) -> str:
    """Return the text of routes as it is; raises ValueError that says what is wrong with it."""
    parse_routes(text)
    return text


def checked_unknown_policy(text: str) -> str:
    """Return the text of unknown policy as it is; raises ValueError that says what is wrong with it."""
    parse_unknown_policy(text)
    return text


def checked_bulk_limits(secret: SecretStr) -> SecretStr:
    """Return the text of bulk limits as it is; raises ValueError that says what is wrong with it."""
    parse_bulk_limits(secret.get_secret_value())
    return secret


def checked_endpoints(text: str) -> str:
    """Return the text of endpoints as it is; raises ValueError that says what is wrong with it."""
    unknown = set(text.split()) - {"health", "reflection", "docs", "metrics"}
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))} is none of health, reflection, docs, metrics")
    return text
