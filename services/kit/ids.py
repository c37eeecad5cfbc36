"""Ids: UUIDv7 for what is made, checked text for what is given."""

import re
import uuid
from datetime import datetime
from typing import Final

import uuid_utils

from services.kit.errors import InvalidRequestError

# Sorts before every id.
NO_ID: Final = "00000000-0000-0000-0000-000000000000"

_CANONICAL: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def new_id() -> str:
    """Return a new UUIDv7 as text; ids made later in one process sort after earlier ones."""
    return str(uuid_utils.uuid7())


def first_id_at(time: datetime) -> str:
    """Return the lowest UUIDv7 of a moment, to the millisecond; every earlier id sorts before it."""
    digits = f"{max(0, int(time.timestamp() * 1000)):012x}"
    return f"{digits[:8]}-{digits[8:]}-7000-8000-000000000000"


def time_of_id(row_id: str) -> float:
    """Return the seconds since 1970 in a UUIDv7."""
    return int(row_id.replace("-", "")[:12], 16) / 1000


def id_or_none(text: str) -> str | None:
    """Return the id in its canonical form, None for what is none."""
    if is_canonical(text):
        return text
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return None


def is_canonical(text: str) -> bool:
    """Tell whether a text is an id as we write them: 36 lower-case characters."""
    return _CANONICAL.fullmatch(text) is not None


def parse_id(field: str, text: str) -> str:
    """Return the id in its canonical form, or raise InvalidRequestError naming the field."""
    if not text:
        raise InvalidRequestError.field(field, "must not be empty")
    found = id_or_none(text)
    if found is None:
        raise InvalidRequestError.field(field, "must be a UUID")
    return found
