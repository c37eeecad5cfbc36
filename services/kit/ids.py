"""Ids: UUIDv7 for what is made, checked text for what is given."""

import uuid

import uuid_utils

from services.kit.errors import InvalidRequestError


def new_id() -> str:
    """Return a new UUIDv7 as text; ids made later in one process sort after earlier ones."""
    return str(uuid_utils.uuid7())


def parse_id(field: str, text: str) -> str:
    """Return the id in its canonical form, or raise InvalidRequestError naming the field."""
    if not text:
        raise InvalidRequestError.field(field, "must not be empty")
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise InvalidRequestError.field(field, "must be a UUID") from None
