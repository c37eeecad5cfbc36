"""Who calls: what the interceptor found out, for the code that it lets through."""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller whose credential was checked."""

    # "key:" and the id of an API key, or "jwt:" and a digest of issuer and subject. It outlives rotations.
    id: str
    scopes: frozenset[str]


_current: ContextVar[Caller | None] = ContextVar("posthouse_caller", default=None)


def current_caller() -> Caller | None:
    """Return the caller of the call that this code runs in; None when calls are not authenticated."""
    return _current.get()


def set_caller(caller: Caller | None) -> None:
    """Note the caller of the call under way; it is seen by whatever that call awaits or starts."""
    _current.set(caller)
