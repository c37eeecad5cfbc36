"""What the query of a URL may have: the parameters of its route, each once."""

from collections.abc import Collection
from urllib.parse import parse_qsl

from gateway.problems import Problem, invalid
from services.kit.errors import Violation


def refusal(query: bytes, known: Collection[str]) -> Problem | None:
    """Return why a query, as it came, is refused; None when it is not. `known` are the route's parameters.

    A filter that is misspelt or overruled by a second one would answer another question than was asked.
    """
    if not query:
        return None
    seen: set[str] = set()
    violations: dict[str, Violation] = {}
    for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in known:
            violations[name] = Violation(name, "is not a parameter of this request")
        elif name in seen:
            violations[name] = Violation(name, "must be given once")
        seen.add(name)
    return invalid(violations.values()) if violations else None


def address(text: str) -> str:
    """Return an address from a query, in which a + that was not encoded has become a space."""
    return f"+{text[1:]}" if text[:1] == " " and text[1:2].isdigit() else text
