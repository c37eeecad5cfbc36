"""What the fields of settings are made of."""

from collections.abc import Callable
from typing import Annotated

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
