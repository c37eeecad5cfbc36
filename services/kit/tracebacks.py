"""Exceptions in log lines: where and of what type, and what they say only where it is known to be harmless.

The text of an exception often quotes the value at fault: a driver the row, a parser the input.
"""

import sys
import traceback
from typing import Any, Final

from structlog.typing import EventDict

from services.kit.errors import PosthouseError

# Whose texts are about the system, or written by us and without values.
_HARMLESS: Final = (PosthouseError, OSError, ImportError, AssertionError, NotImplementedError)


def format_safely(_logger: Any, _method: str, fields: EventDict) -> EventDict:
    """Replace `exc_info` of a log line by `exception`, a traceback without foreign texts; a processor."""
    given = fields.pop("exc_info", None)
    if given is True:
        given = sys.exc_info()
    error = given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        fields["exception"] = describe(error)
    return fields


def describe(error: BaseException) -> str:
    """Return the traceback of an exception and of what it came from, outermost last."""
    chain: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        frames = "".join(traceback.format_tb(current.__traceback__))
        chain.append(f"Traceback (most recent call last):\n{frames}{summary(current)}")
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\n\n".join(reversed(chain))


def summary(error: BaseException) -> str:
    """Return an exception in one line: its type, PostgreSQL's or gRPC's code, and a harmless text."""
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    code = getattr(error, "sqlstate", None) or getattr(getattr(error, "orig", None), "sqlstate", None)
    if code is None and callable(getattr(error, "code", None)):
        code = error.code()  # type: ignore[attr-defined]  # of grpc.RpcError
    found = name if code is None else f"{name} [{code}]"
    if isinstance(error, BaseExceptionGroup):
        return f"{found}: {'; '.join(summary(inner) for inner in error.exceptions)}"
    return f"{found}: {error}" if isinstance(error, _HARMLESS) else found
