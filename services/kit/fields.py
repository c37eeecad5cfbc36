"""Checks of single request fields that several services have; every refusal names the field."""

from collections.abc import Mapping
from datetime import UTC, datetime

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from services.kit.enum_names import EnumNames
from services.kit.errors import InvalidRequestError, Violation

# Longest id or name that somebody else has given, in characters.
LABEL_LENGTH = 255

# Bounds of metadata, of a message's and a conversation's: pairs, and characters of a key and a value.
METADATA_PAIRS = 50
METADATA_KEY_LENGTH = 64
METADATA_VALUE_LENGTH = 500

# PostgreSQL stores none.
NUL = "must not contain NUL characters"


def read_label(field: str, text: str, *, longest: int = LABEL_LENGTH) -> str:
    """Return a text that PostgreSQL can hold or compare with."""
    if len(text) > longest:
        raise InvalidRequestError.field(field, f"must not be longer than {longest} characters")
    if "\x00" in text:
        raise InvalidRequestError.field(field, NUL)
    return text


def metadata_faults(field: str, metadata: Mapping[str, str]) -> list[Violation]:
    """Return what is wrong with the labels of a message or a conversation that a caller gives."""
    if not metadata:
        return []
    faults = []
    if len(metadata) > METADATA_PAIRS:
        faults.append(f"must not have more than {METADATA_PAIRS} pairs")
    if "" in metadata:
        faults.append("must not have an empty key")
    if max(map(len, metadata)) > METADATA_KEY_LENGTH:
        faults.append(f"must not have a key longer than {METADATA_KEY_LENGTH} characters")
    if max(map(len, metadata.values())) > METADATA_VALUE_LENGTH:
        faults.append(f"must not have a value longer than {METADATA_VALUE_LENGTH} characters")
    if any("\0" in key or "\0" in value for key, value in metadata.items()):
        faults.append(NUL)
    return [Violation(field, fault) for fault in faults]


def read_word(field: str, names: EnumNames, number: int) -> str:
    """Return the word of an enum's value, "" for the unspecified one."""
    if not names.knows(number):
        raise InvalidRequestError.field(field, "is not a known value")
    return names.word(number)


def read_time(field: str, time: Timestamp) -> datetime:
    """Return a time of the contract, to the microsecond."""
    try:
        return time.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidRequestError.field(field, "must lie between the years 1 and 9999") from None


def read_range(message: Message, prefix: str = "") -> tuple[datetime | None, datetime | None]:
    """Return since_time and until_time of a request, None where they are empty.

    A range that can hold nothing is refused: it is a mistake. `prefix` stands before their names in refusals.
    """
    since, until = (
        read_time(f"{prefix}{name}", getattr(message, name)) if message.HasField(name) else None
        for name in ("since_time", "until_time")
    )
    if since is not None and until is not None and since >= until:
        raise InvalidRequestError.field(f"{prefix}until_time", "must be after the beginning")
    return since, until
