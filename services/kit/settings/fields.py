"""What the fields of settings are made of."""

from collections.abc import Callable
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, Field, SecretStr

from services.kit.bulk_limits import parse_bulk_limits
from services.kit.keyring import parse_keys

Port = Annotated[int, Field(ge=1, le=65535)]


def world(name: str) -> AliasChoices:
    """Return the alias of a setting whose name the world knows; it carries no prefix."""
    return AliasChoices(name, name.lower())


def checked(parse: Callable[[str], object]) -> AfterValidator:
    """Return the check of a text that `parse` must understand, or raise ValueError about."""

    def check(text: str) -> str:
        parse(text)
        return text

    return AfterValidator(check)


def check_database_url(url: str) -> None:
    """Raise ValueError for what is no address of a PostgreSQL. It is not quoted: it may have a password."""
    if not url.startswith(("postgresql://", "postgres://")):
        raise ValueError("is not of the form postgresql://user:password@host:port/database")


_NATS_SCHEMES: Final = frozenset({"nats", "tls"}), frozenset({"ws", "wss"})


def check_nats_url(urls: str) -> None:
    """Raise ValueError for what is no list of addresses of NATS servers, which are not quoted either."""
    schemes = set()
    for number, url in enumerate(urls.split(","), 1):
        try:
            parts = urlsplit(url if "://" in url else f"nats://{url}")
            usable = bool(parts.hostname) and parts.port != 0  # reading the port checks it
        except ValueError:
            usable = False
        if not usable:
            raise ValueError(f"server {number} is not of the form nats://host:port")
        schemes.add(parts.scheme)
    if not any(schemes <= allowed for allowed in _NATS_SCHEMES):
        raise ValueError("servers must all be nats:// or tls://, or all ws:// or wss://")


def checked_bulk_limits(secret: SecretStr) -> SecretStr:
    """Return the text of bulk limits as it is; raises ValueError that says what is wrong with it."""
    parse_bulk_limits(secret.get_secret_value())
    return secret


def checked_keys(secret: SecretStr) -> SecretStr:
    """Return the text of encryption keys as it is; raises ValueError that says what is wrong with it."""
    parse_keys(secret.get_secret_value())
    return secret


def words(text: str) -> frozenset[str]:
    """Return the words of a list, whether spaces or commas are between them."""
    return frozenset(text.replace(",", " ").split())


def some_of(*known: str, always: str = "") -> AfterValidator:
    """Return the check of a list of `known` words, of which `always` must be one."""

    def check(text: str) -> str:
        unknown = words(text) - set(known)
        if unknown:
            raise ValueError(f"{', '.join(sorted(unknown))} is none of {', '.join(known)}")
        if always and always not in words(text):
            raise ValueError(f"must have {always} in it")
        return text

    return AfterValidator(check)
