"""Chance, free or seeded: the numbers on which everything the simulator does to a message depends."""

import hashlib
import random
import struct
from collections.abc import Callable
from typing import Final

from services.providers.base import OutboundMessage

_UNPACK: Final = struct.Struct("<16I").unpack
_SCALE: Final = 1 / (1 << 32)

# Returns the draw of one kind for one message, from 0 up to but not including 1.
Draw = Callable[[int], float]


# What a draw decides. Each has its own, so that changing one rate leaves the rest of a run alone.
REFUSAL: Final = 0
UNDELIVERED: Final = 1
REPLY: Final = 2
# The four of a callback, for the receipt; those of the reply follow at an offset.
LOSS: Final = 3
DUPLICATE: Final = 4
REORDER: Final = 5
LATENESS: Final = 6
REPLY_OFFSET: Final = 4


def free_draw(_kind: int) -> float:
    """Return a draw that no one can repeat."""
    return random.random()  # noqa: S311 - it plays the weather, it guards nothing


def fingerprint(message: OutboundMessage, body_hash: str) -> int:
    """Return the 64-bit key of a message that is the same in every run, whatever ids it got.

    Equal messages share it; their ordinals tell them apart.
    """
    text = "\0".join((message.channel, message.sender, message.recipient, body_hash, str(message.attempt)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


def seeded_draw(seed: int, key: int, ordinal: int) -> Draw:
    """Return the draws of the ordinal-th message with this fingerprint in the run of this seed."""
    digest = hashlib.blake2b(struct.pack("<qqq", seed, key, ordinal), digest_size=64).digest()
    numbers = _UNPACK(digest)
    return lambda kind: numbers[kind] * _SCALE
