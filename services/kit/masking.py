"""Masks what must not be read in logs: addresses, bodies and secrets."""

import re
from typing import Any

# Both are bounded, or begin with what is rare: a long text without an address takes no longer for it.
_EMAIL = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,256}@[\w-]+(?:\.[\w-]+)+")
_PHONE = re.compile(
    r"(?:(?<=%2B)|(?<=%2b)|(?<![\w.-]))(?!\d{1,3}(?:\.\d{1,3}){3}\b)\+?\d[\d ().-]{6,17}\d(?![\w-])"
)
_URL_PASSWORD = re.compile(r"(://[^\s:/@]*):[^\s@/]+@")

# Keys whose values are never logged, whatever they look like.
_SECRET_KEYS = frozenset(
    {"body", "html", "subject", "authorization", "api_key", "password", "secret", "token", "raw", "text"}
)


def mask_address(address: str) -> str:
    """Return an address with only enough left to tell two apart: +1*****6543, a***@example.com."""
    if "@" in address:
        local, _, domain = address.rpartition("@")
        return f"{local[:1]}***@{domain}"
    return f"{address[:2]}*****{address[-4:]}" if len(address) > 6 else "*****"  # noqa: PLR2004


def mask_text(text: str) -> str:
    """Return free text with every address and every password of a URL masked."""
    text = _URL_PASSWORD.sub(r"\1:***@", text)
    text = _EMAIL.sub(lambda found: mask_address(found.group()), text)
    return _PHONE.sub(lambda found: mask_address(found.group()), text)


def mask_value(key: str, value: Any) -> Any:
    """Return a log field with what must not be read masked, at any depth."""
    if key.lower() in _SECRET_KEYS:
        return "***"
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, dict):
        return {inner: mask_value(str(inner), item) for inner, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [mask_value(key, item) for item in value]
    return value
