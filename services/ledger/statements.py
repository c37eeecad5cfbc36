"""Statements of the hot path: their parameters are named in the text and numbered once, when it is loaded."""

import re
from collections.abc import Mapping
from typing import Any

from psycopg import AsyncRawCursor
from psycopg.rows import TupleRow

from services.ledger.database import HotConnection

_PARAMETER = re.compile(r"%\((\w+)\)s")


class HotStatement:
    """A statement with parameters written %(name)s.

    psycopg would take a text of more than 4,096 characters apart again at every execution.
    """

    def __init__(self, text: str) -> None:
        numbers: dict[str, int] = {}
        numbered = _PARAMETER.sub(lambda found: f"${numbers.setdefault(found[1], len(numbers) + 1)}", text)
        self._text = numbered.replace("%%", "%").encode()
        self._names = tuple(numbers)

    async def execute(
        self, connection: HotConnection, parameters: Mapping[str, Any]
    ) -> AsyncRawCursor[TupleRow]:
        """Execute it; `parameters` may hold more than the text names."""
        cursor = AsyncRawCursor(connection)
        return await cursor.execute(self._text, [parameters[name] for name in self._names])
