"""Network addresses of callers: who is behind a proxy, and what counts as one address."""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from urllib.parse import unquote

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_SEPARATORS = re.compile(r"[\s,]+")
# What one household or server is given of IPv6: whoever is limited can choose any address within.
_IPV6_PREFIX = 64
# More hops than any chain of proxies has; a longer list is somebody's game.
_MOST_HOPS = 32


def split_list(text: str) -> list[str]:
    """Return the entries of a setting, which spaces or commas separate."""
    return [entry for entry in _SEPARATORS.split(text) if entry]


def parse_networks(text: str) -> tuple[Network, ...]:
    """Return the networks of a setting such as `10.0.0.0/8 ::1`; raises ValueError."""
    return tuple(ipaddress.ip_network(entry, strict=False) for entry in split_list(text))


@lru_cache(maxsize=65536)
def parse_address(text: str) -> Address | None:
    """Return the address in `1.2.3.4`, `1.2.3.4:5`, `::1` or `[::1]:5`, or None; IPv4 within IPv6 is IPv4."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def is_loopback(host: str) -> bool:
    """Tell whether a host, by name or address, is this machine and nobody else can reach it."""
    address = parse_address(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


@lru_cache(maxsize=65536)
def limited_address(text: str) -> str:
    """Return what counts as one caller: an IPv4 address, an IPv6 /64, "unknown" for what is neither."""
    address = parse_address(text)
    if address is None:
        return "unknown"
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((int(address), _IPV6_PREFIX), strict=False))


def peer_address(peer: str) -> str:
    """Return the address of a gRPC peer such as `ipv4:127.0.0.1:5` or `ipv6:%5B::1%5D:5`."""
    kind, _, rest = peer.partition(":")
    return rest if kind == "ipv4" else unquote(rest) if kind == "ipv6" else ""


def caller_address(peer: str, forwarded: Iterable[str], trusted: Sequence[Network]) -> str:
    """Return the caller's address, given the values of X-Forwarded-For in order.

    Read from the right, since everything left of the last trusted proxy is the caller's own claim.
    """
    if not trusted or not _within(peer, trusted):
        return peer
    believed = peer
    hops = [hop for value in forwarded for hop in value.split(",")]
    for hop in reversed(hops[-_MOST_HOPS:]):
        address = parse_address(hop)
        if address is None:
            break
        believed = str(address)
        if not _within(believed, trusted):
            break
    return believed


def _within(text: str, networks: Sequence[Network]) -> bool:
    address = parse_address(text)
    return address is not None and any(address in network for network in networks)
