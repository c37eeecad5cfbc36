"""Positions in the log of events: what a watcher gives to go on where it stopped."""

import re
from typing import NamedTuple

from services.kit.errors import InvalidRequestError

_FORM = re.compile(r"([0-9a-f]{1,16})-([0-9]{1,19})-([0-9]{1,9})")


class Position(NamedTuple):
    """How far the log was read; positions compare in the order of the log.

    `epoch` tells one log from its successor, after the broker's store was deleted: milliseconds of its
    creation. `sequence` is that of the broker's message, `offset` how far into its events.
    """

    epoch: int
    sequence: int
    offset: int

    def __str__(self) -> str:
        """Return the text that watchers keep; to them it is opaque."""
        return f"{self.epoch:x}-{self.sequence}-{self.offset}"


def read_position(field: str, text: str) -> Position | None:
    """Return the position in a text, None in an empty one, or raise InvalidRequestError naming the field."""
    if not text:
        return None
    found = _FORM.fullmatch(text)
    if found is None:
        raise InvalidRequestError.field(field, "is not the id of an event in the stream")
    return Position(int(found[1], 16), int(found[2]), int(found[3]))
