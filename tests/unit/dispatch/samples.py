"""A claimed message and a route, of which a test says only what it is about."""

import dataclasses
from datetime import UTC, datetime
from typing import Any

from services.dispatch.retry import Route
from services.ledger.claims import ClaimedMessage


def claimed(**given: Any) -> ClaimedMessage:
    """Return a claimed SMS in its first attempt, with some fields replaced."""
    empty: dict[str, Any] = dict.fromkeys(ClaimedMessage._fields)
    sms = {"id": "m1", "channel": "sms", "priority": "normal", "attempt": 1, "body": "hello"}
    return ClaimedMessage(**{**empty, **sms, "attempt_time": datetime(2026, 3, 1, tzinfo=UTC), **given})


def route(provider: str = "first", **given: Any) -> Route:
    """Return the route to a provider, with some fields replaced."""
    empty: dict[str, Any] = dict.fromkeys(field.name for field in dataclasses.fields(Route))
    return Route(**{**empty, "provider": provider, "reason": "the only one", "inquiry_delay": 30.0, **given})
