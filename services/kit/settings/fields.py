"""What the fields of settings are made of."""

from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, AliasChoices, Field, SecretStr

from services.kit.bulk_limits import parse_bulk_limits

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


def checked_endpoints(text: str) -> str:
    """Return the text of endpoints as it is; raises ValueError that says what is wrong with it."""
    unknown = set(text.split()) - {"health", "reflection", "docs", "metrics"}
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))} is none of health, reflection, docs, metrics")
    return text
