"""Who calls: the request id and the credentials of an HTTP request, as gRPC metadata."""

import re
from collections.abc import Iterable
from functools import lru_cache

from starlette.requests import Request
from starlette.types import Scope

from services.kit.errors import UnauthenticatedError
from services.kit.rate_limit_clients import GATEWAY_TOKEN

Metadata = tuple[tuple[str, str], ...]

_CREDENTIAL = re.compile(rb"[\x20-\x7e]*")
# Bytes; what is longer is no credential, and is not worth remembering.
_LONGEST = 16_384
_CREDENTIAL_HEADERS = frozenset({b"authorization", b"x-api-key"})


def credentials(headers: Iterable[tuple[bytes, bytes]]) -> Metadata:
    """Return the credentials among raw headers; raises UnauthenticatedError when they cannot be any."""
    return _as_text(tuple([pair for pair in headers if pair[0] in _CREDENTIAL_HEADERS]))


@lru_cache(maxsize=1024)
def _as_text(given: tuple[tuple[bytes, bytes], ...]) -> Metadata:
    """Return credentials as metadata. The same callers come again and again: they are read once."""
    for _, value in given:
        if len(value) > _LONGEST:
            raise UnauthenticatedError("the credential is longer than any credential")
        if not _CREDENTIAL.fullmatch(value):
            raise UnauthenticatedError("the credential holds characters that no credential has")
    return tuple((name.decode("ascii"), value.decode("ascii")) for name, value in given)


def caller(scope: Scope) -> Metadata:
    """Return what the services are told of a request's caller: its credentials, and its address.

    The address goes along only with the gateway's own token, without which no service would believe it.
    """
    return (*credentials(scope["headers"]), *scope["state"].get("forwarded", ()))


def signed_caller(scope: Scope) -> Metadata:
    """Return what the services are told of a caller that signs its requests instead of having a credential.

    The gateway's own token is enough, and it is the same for all of them, so that they can share calls.
    """
    own = tuple(pair for pair in scope["state"].get("forwarded", ()) if pair[0] == GATEWAY_TOKEN)
    return own or credentials(scope["headers"])


def call_metadata(request: Request) -> Metadata:
    """Return the metadata of the calls made on behalf of a request."""
    return (("x-request-id", request.state.request_id), *caller(request.scope))
