"""Keyset paging: page sizes within bounds and opaque tokens bound to their filter."""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import Any

import orjson

from services.kit.errors import InvalidRequestError
from services.kit.ids import id_or_none

# A PostgreSQL integer.
_LARGEST = 2**31 - 1


def page_size(asked: int, *, default: int = 50, largest: int = 200) -> int:
    """Return a page size within its bounds; 0 means the default, a negative one is refused."""
    if asked < 0:
        raise InvalidRequestError.field("page_size", "must not be negative")
    return min(asked, largest) if asked else default


def encode_token(filter_key: Sequence[Any], position: Sequence[Any]) -> str:
    """Return the token of the page after `position` under the given filter; both are JSON values."""
    body = orjson.dumps([_digest(filter_key), *position])
    return base64.urlsafe_b64encode(body).decode().rstrip("=")


def decode_token(token: str, filter_key: Sequence[Any]) -> list[Any] | None:
    """Return the position in a token, None for the first page, or raise InvalidRequestError."""
    if not token:
        return None
    try:
        digest, *position = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (binascii.Error, ValueError, TypeError):
        raise invalid_token() from None
    if digest != _digest(filter_key):
        raise invalid_token("was made for another filter")
    return list(position)


def read_id(token: str, filter_key: Sequence[Any]) -> str | None:
    """Return the id that a token holds, None for the first page, or raise InvalidRequestError."""
    position = decode_token(token, filter_key)
    if position is None:
        return None
    found = id_or_none(position[0]) if len(position) == 1 and isinstance(position[0], str) else None
    if found is None:
        raise invalid_token()
    return found


def read_number(token: str, filter_key: Sequence[Any]) -> int:
    """Return the number that a token holds, 0 for the first page, or raise InvalidRequestError."""
    position = decode_token(token, filter_key)
    if position is None:
        return 0
    if len(position) != 1 or type(position[0]) is not int or not 0 <= position[0] <= _LARGEST:
        raise invalid_token()
    return position[0]


def _digest(filter_key: Sequence[Any]) -> str:
    return hashlib.blake2s(orjson.dumps(list(filter_key)), digest_size=6).hexdigest()


def invalid_token(description: str = "is not a page token of this service") -> InvalidRequestError:
    """Return the error of a token that cannot be followed."""
    error = InvalidRequestError.field("page_token", description)
    error.reason = "INVALID_PAGE_TOKEN"
    return error
