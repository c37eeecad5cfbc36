"""Ids: UUIDv7 for what is made, checked text for what is given."""

import uuid
from datetime import datetime

import uuid_utils

from services.kit.errors import InvalidRequestError


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


def parse_id(field: str, text: str) -> str:
    """Return the id in its canonical form, or raise InvalidRequestError naming the field."""
    if not text:
        raise InvalidRequestError.field(field, "must not be empty")
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise InvalidRequestError.field(field, "must be a UUID") from None
