"""Ids of requests: what a caller may give, and where it travels."""

import re
from typing import Any, Final

from services.kit.ids import new_id

# The metadata key of gRPC calls, and the header of HTTP requests and answers.
REQUEST_ID: Final = "x-request-id"

# What a caller may choose: short, and safe in headers and log lines.
_USABLE = re.compile(rb"[\x21-\x7e]{1,128}")


def request_id(given: bytes | None) -> str:
    """Return the caller's request id, or a new one when it gave none that is usable."""
    if given is not None and _USABLE.fullmatch(given):
        return given.decode("ascii")
    return new_id()


def request_id_of_call(metadata: Any) -> str:
    """Return the request id in a call's metadata, or a new one."""
    for key, value in metadata or ():
        if key == REQUEST_ID:
            return request_id(value.encode("latin-1", "replace") if isinstance(value, str) else value)
    return new_id()
