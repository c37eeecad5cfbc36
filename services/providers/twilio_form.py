"""The parameters of a Twilio webhook, read from the raw body as strictly as its signature needs."""

import re
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import orjson

# Parameters Twilio sends are a few dozen.
_MAX_PARAMETERS: Final = 1000

# Names and values are signed with nothing between them: the stricter the names, the less of a value can be
# passed off as one.
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.\[\]-]{0,127}")

# Escapes are written in capitals, as by every encoder Twilio may use: no other body reads the same.
_ENCODED: Final = re.compile(rb"(?:[!-$&-~]|%[0-9A-F]{2})*")


class Parameters(dict[str, list[str]]):
    """Values by name; a name may come several times. The SDK's validator reads it by `getlist`."""

    def getlist(self, name: str) -> list[str]:
        """Return the values of a name."""
        return self[name]

    def first(self, name: str) -> str:
        """Return the first value of a name, "" when there is none."""
        return self[name][0] if name in self else ""


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
    for pair in body.split(b"&"):
        encoded_name, separator, encoded_value = pair.partition(b"=")
        try:
            name, value = _decode(encoded_name), _decode(encoded_value)
        except UnicodeDecodeError:
            return None
        if not separator or _NAME.fullmatch(name) is None or value in parameters.get(name, ()):
            return None
        parameters.setdefault(name, []).append(value)
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


def _decode(encoded: bytes) -> str:
    if b"%" not in encoded and b"+" not in encoded:
        return encoded.decode()
    return unquote_to_bytes(encoded.replace(b"+", b" ")).decode()
