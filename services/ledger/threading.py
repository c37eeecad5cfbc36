"""Threading: which conversation a message between two addresses belongs to."""

import hashlib
import uuid
from functools import lru_cache
from typing import Final

# Never to change: the ids of all conversations derive from it.
_NAMESPACE: Final = uuid.UUID("6f0c7a52-1d7e-5b0e-9c38-70d1b2a9e4f6")

# A channel that is not listed is a family of its own.
_FAMILIES: Final = {"sms": "sms", "mms": "sms"}


def family_of(channel: str) -> str:
    """Return the channel family a channel shares its conversations with."""
    return _FAMILIES.get(channel, channel)


def conversation_key(family: str, a: str, b: str) -> tuple[str, str]:  # noqa: ARG001
    """Return the two canonical addresses as participant_a and participant_b: the smaller first."""
    return (a, b) if a <= b else (b, a)


def conversation_id(family: str, a: str, b: str) -> str:
    """Return the UUIDv5 of the conversation between two canonical addresses, in either order."""
    return _derive(family, a, b) if a <= b else _derive(family, b, a)


@lru_cache(maxsize=100_000)
def _derive(family: str, participant_a: str, participant_b: str) -> str:
    # Addresses never contain control characters, so no two keys make the same text. RFC 9562, 5.5, by
    # hand: uuid.uuid5 takes three times as long, and intake makes one for each new pair.
    name = f"{family}\n{participant_a}\n{participant_b}".encode()
    digits = hashlib.sha1(_NAMESPACE.bytes + name, usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"
