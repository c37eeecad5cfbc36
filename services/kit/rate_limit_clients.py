"""Who is limited: the credential or address behind a call, and the limit of its own it may have."""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

from services.kit.bulk_limits import parse_bulk_limits
from services.kit.callers import current_caller
from services.kit.config import Settings
from services.kit.networks import caller_address, limited_address, parse_networks, peer_address

# Metadata by which the gateway proves itself and names the caller it speaks for.
GATEWAY_TOKEN = "x-posthouse-gateway"  # noqa: S105 - the name of the header
GATEWAY_ADDRESS = "x-posthouse-address"

_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Client:
    """A caller as the limits see it."""

    # The id of an authenticated caller; else "key:" and a digest of the credential, or "ip:" and the address
    # of a caller without one.
    key: str
    # The address that counts as one: IPv4, or an IPv6 /64.
    address: str
    # Of its own, where the settings raise it; 0: the general limits apply.
    limit: int = 0


class Clients:
    """Tells callers apart."""

    def __init__(self, *, bulk: str = "", trusted_proxies: str = "", gateway_token: str = "") -> None:
        self._bulk = parse_bulk_limits(bulk)
        self._trusted = parse_networks(trusted_proxies)
        self._token = gateway_token.encode()
        self.identify = lru_cache(maxsize=_REMEMBERED)(self._identify)

    @classmethod
    def build(cls, settings: Settings) -> "Clients":
        """Return what the settings say."""
        return cls(
            bulk=settings.rate_limit_bulk.get_secret_value(),
            trusted_proxies=settings.trusted_proxies,
            gateway_token=settings.gateway_token.get_secret_value() if settings.gateway_token else "",
        )

    def address(self, peer: str, forwarded: Iterable[str]) -> str:
        """Return the address of a caller, who may be behind proxies that are trusted."""
        return caller_address(peer, forwarded, self._trusted)

    def is_gateway(self, metadata: Iterable[tuple[str, str | bytes]] | None) -> bool:
        """Tell whether a gRPC call comes from our own gateway, which has limited its caller already."""
        if not self._token:
            return False
        return any(
            name == GATEWAY_TOKEN and hmac.compare_digest(_bytes(value), self._token)
            for name, value in metadata or ()
        )

    def of_call(self, metadata: Iterable[tuple[str, str | bytes]] | None, peer: str) -> Client:
        """Return the caller of a gRPC call; who calls through the gateway is the gateway's caller."""
        pairs = [(name, _bytes(value).decode("latin-1")) for name, value in metadata or ()]
        address = ""
        if self.is_gateway(pairs):
            address = next((value for name, value in pairs if name == GATEWAY_ADDRESS), "")
        if not address:
            forwarded = [value for name, value in pairs if name == "x-forwarded-for"]
            address = self.address(peer_address(peer), forwarded)
        caller = current_caller()
        return self.identify(credential(pairs), address, caller.id if caller else "")

    def _identify(self, secret: str, address: str, caller_id: str = "") -> Client:
        """Return who is limited; `caller_id` is an authenticated caller's, whatever its secret is now."""
        place = limited_address(address)
        key = caller_id
        if not key:
            key = f"key:{sha256(secret.encode()).hexdigest()[:32]}" if secret else f"ip:{place}"
        limit = self._bulk.limit(secret, address)
        return Client(key, place, max(limit, self._bulk.limit(caller_id, address)) if caller_id else limit)


def credential(headers: Iterable[tuple[str, str]]) -> str:
    """Return the API key or bearer token among headers or metadata, "" without one, or of another scheme.

    The same key counts as the same client in either header.
    """
    bearer = ""
    for name, value in headers:
        if name == "x-api-key" and value:
            return value
        if name == "authorization":
            scheme, _, token = value.partition(" ")
            bearer = token.strip() if scheme.lower() == "bearer" else ""
    return bearer


def _bytes(value: str | bytes) -> bytes:
    return value.encode("latin-1", "replace") if isinstance(value, str) else value
