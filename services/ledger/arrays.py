"""Array literals for parameters: the cheapest way to hand psycopg a thousand values of a column.

psycopg adapts a list item by item in Python; a literal is one string. The statement casts it:
`%s::text[]`.
"""

from collections.abc import Iterable


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


def bytes_array(values: Iterable[bytes | None]) -> str:
    """Return the literal of byte strings; None is NULL."""
    return "{" + ",".join(["NULL" if value is None else f'"\\\\x{value.hex()}"' for value in values]) + "}"
