"""Page tokens of lists in order of time: where the page before ended, bound to the filter."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from services.kit.paging import decode_token, encode_token, invalid_token


class Position(NamedTuple):
    """Place of a row in a list ordered by time and id; both fall from page to page."""

    time: datetime
    id: str


def write_token(filter_key: Sequence[Any], position: Position) -> str:
    """Return the token of the page after a position."""
    return encode_token(filter_key, [position.time.isoformat(), position.id])


def read_token(token: str, filter_key: Sequence[Any]) -> Position | None:
    """Return the position in a token, None for the first page, or raise InvalidRequestError."""
    values = decode_token(token, filter_key)
    if values is None:
        return None
    try:
        time, row_id = values
        position = Position(datetime.fromisoformat(time), str(UUID(row_id)))
    except (ValueError, TypeError, AttributeError):
        position = None
    if position is None or position.time.tzinfo is None:
        raise invalid_token()
    return position
