"""The Retry-After header of HTTP answers (RFC 9110, 10.2.3)."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

# Seconds no provider makes us wait beyond: a broken date must not park a message for years.
LONGEST: Final = 3600.0

_MAX_DIGITS: Final = 9


def read_retry_after(value: str | None) -> float | None:
    """Return the seconds a header asks to wait, from 0 to LONGEST, or None when it says nothing usable."""
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:_MAX_DIGITS]), LONGEST)
    try:
        moment = parsedate_to_datetime(text)
        seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST)
