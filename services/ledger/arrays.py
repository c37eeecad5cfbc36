"""Array literals for parameters: the cheapest way to hand psycopg a thousand values of a column.

psycopg adapts a list item by item in Python; a literal is one string. The statement casts it:
`%s::text[]`.
"""

import re
from collections.abc import Iterable, Sequence
from typing import overload

_SURROGATE = re.compile("[\ud800-\udfff]")


def plain_array(values: Iterable[object]) -> str:
    """Return the literal of values whose text needs no quoting (ids, numbers, booleans); None is NULL."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def text_array(values: Iterable[str | None]) -> str:
    """Return the literal of texts, quoted; None is NULL."""
    return (
        "{"
        + ",".join(
            [
                "NULL"
                if value is None
                else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
                if "\\" in value or '"' in value
                else '"' + value + '"'
                for value in values
            ]
        )
        + "}"
    )


@overload
def storable(text: str) -> str: ...
@overload
def storable(text: None) -> None: ...
def storable(text: str | None) -> str | None:
    """Return a text as PostgreSQL takes it: without NUL characters, with U+FFFD for lone surrogates."""
    if text is None:
        return None
    if "\0" in text:
        text = text.replace("\0", "")
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def bytes_array(values: Iterable[bytes | None]) -> str:
    """Return the literal of byte strings; None is NULL."""
    return "{" + ",".join(["NULL" if value is None else f'"\\\\x{value.hex()}"' for value in values]) + "}"


def plain_column(values: Sequence[object]) -> str:
    """Return plain_array of a column that unnest takes beside a longer one, empty where all of it is NULL.

    unnest fills what is shorter with NULL: neither side writes or reads a NULL for each row then.
    """
    return "{}" if values.count(None) == len(values) else plain_array(values)


def text_column(values: Sequence[str | None]) -> str:
    """Return text_array of a column that unnest takes beside a longer one, empty where all of it is NULL."""
    return "{}" if values.count(None) == len(values) else text_array(values)


def bytes_column(values: Sequence[bytes | None]) -> str:
    """Return bytes_array of a column that unnest takes beside a longer one, empty where all of it is NULL."""
    return "{}" if values.count(None) == len(values) else bytes_array(values)
