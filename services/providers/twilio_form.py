"""The parameters of a Twilio webhook, read from the raw body as strictly as its signature needs."""

import re
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import orjson

from services.providers.base import WebhookRequest

# Parameters Twilio sends are a few dozen.
_MAX_PARAMETERS: Final = 1000

# Names and values are signed with nothing between them: the stricter the names, the less of a value can be
# passed off as one.
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.\[\]-]{0,127}")

# Escapes are written in capitals, as by every encoder Twilio may use: no other body reads the same. Neither
# repetition gives back what it took, so that no body takes longer than its length.
_ENCODED: Final = re.compile(rb"(?:[!-$&-~]++|%[0-9A-F]{2})*+")

_READING: Final = "twilio form"


class Parameters(dict[str, list[str]]):
    """Values by name; a name may come several times."""

    def first(self, name: str) -> str:
        """Return the first value of a name, "" when there is none."""
        return self[name][0] if name in self else ""


def form_of(request: WebhookRequest) -> Parameters | None:
    """Return what `read_form` does of a request's body, read once."""
    if _READING not in request.readings:
        request.readings[_READING] = read_form(request.body)
    found: Parameters | None = request.readings[_READING]
    return found


def read_form(body: bytes) -> Parameters | None:
    """Return the parameters of a form-encoded body, or None when it is not one that Twilio would send.

    Empty values count, and so do several values of one name. An exact repetition does not: the signature is
    over distinct values, so it would not show.
    """
    parameters = Parameters()
    if not body:
        return parameters
    if _ENCODED.fullmatch(body) is None or body.count(b"&") >= _MAX_PARAMETERS:
        return None
    for pair in body.decode("ascii").split("&"):
        name, separator, value = pair.partition("=")
        if "%" in pair or "+" in pair:
            try:
                name, value = _decode(name), _decode(value)
            except UnicodeDecodeError:
                return None
        values = parameters.setdefault(name, [])
        if not separator or _NAME.fullmatch(name) is None or value in values:
            return None
        values.append(value)
    return parameters


def read_json(body: bytes) -> Parameters | None:
    """Return the texts and numbers of a JSON object as parameters, or None when the body is none."""
    try:
        fields: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(fields, dict):
        return None
    return Parameters({name: [str(value)] for name, value in fields.items() if isinstance(value, (str, int))})


def _decode(encoded: str) -> str:
    return unquote_to_bytes(encoded.replace("+", " ")).decode()
