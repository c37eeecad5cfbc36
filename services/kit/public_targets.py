"""Which addresses may be called on behalf of others: public ones, and those that a setting allows."""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from yarl import URL

from services.kit.networks import Address, Network, split_list

LONGEST_URL: Final = 2048
ANY_PORT: Final = "*"

# What parsers of URLs drop in silence or read in different ways, and what is not ASCII.
_UNSAFE: Final = re.compile(r"[^\x21-\x7e]|\\")
# A host that ends like this is meant as an IPv4 address by somebody: 127.1, 2130706433, 0x7f.1, 017700000001.
_NUMERIC: Final = re.compile(r"(^|\.)(\d+|0[xX][0-9a-fA-F]*)\.?$")
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
_LOCAL_NAMES: Final = ("localhost", "local", "internal", "localdomain", "home.arpa")

# What is not public. The registries are in `ipaddress` too, as old as the Python at hand.
_NEVER: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # shared behind carriers' NAT
        "127.0.0.0/8",
        "168.63.129.16/32",  # the host of a virtual machine in Azure
        "169.254.0.0/16",  # link-local, with the metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved and broadcast
        "2001::/23",  # protocols, with Teredo, which has an IPv4 address inside
        "2001:db8::/32",
        "2002::/16",  # 6to4, with an IPv4 address inside
        "3fff::/20",
    )
)
_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
# Networks without IPv4 reach it through these; the last four bytes are where it goes.
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def parse_ports(text: str) -> frozenset[int]:
    """Return the ports of a setting such as `80 443`, none for `*`: any; raises ValueError."""
    entries = split_list(text)
    if entries == [ANY_PORT]:
        return frozenset()
    if not entries or not all(each.isdecimal() and 1 <= int(each) <= 65_535 for each in entries):  # noqa: PLR2004
        raise ValueError("must be ports such as `80 443`, or *")
    return frozenset(int(each) for each in entries)


def is_public(address: Address) -> bool:
    """Tell whether an address is one of the open Internet, and leads to no other by translation."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
        if address not in _UNICAST:
            return False
    if any(address in network for network in _NEVER):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


@dataclass(frozen=True, slots=True)
class TargetPolicy:
    """What may be called: public addresses and `networks`, on `ports` (none: any)."""

    networks: tuple[Network, ...] = ()
    ports: frozenset[int] = frozenset({80, 443})

    def allows(self, host: str) -> bool:
        """Tell whether connections to an address may be opened; what is no plain address is refused."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
            return False
        return is_public(address) or any(address in network for network in self.networks)

    def wrong_with(self, url: str) -> str | None:
        """Return what is wrong with a URL as far as can be told without resolving its name, or None."""
        if len(url) > LONGEST_URL:
            return f"must not be longer than {LONGEST_URL} characters"
        if _UNSAFE.search(url):
            return "must be ASCII without spaces, backslashes and control characters"
        try:
            parts = URL(url)
            port = parts.port
        except ValueError:
            return "is not a valid URL"
        return self._wrong_with_parts(parts, port) or self._wrong_with_host(parts.raw_host or "")

    def _wrong_with_parts(self, parts: URL, port: int | None) -> str | None:
        if parts.scheme not in {"http", "https"} or not parts.host:
            return "must be an http or https URL with a host"
        if "@" in parts.raw_authority:
            return "must not contain credentials"
        if parts.raw_fragment:
            return "must not have a fragment"
        if not port or (self.ports and port not in self.ports):
            return f"must have a port that is allowed: {_listed(self.ports)}"
        return None

    def _wrong_with_host(self, host: str) -> str | None:
        if ":" in host or _NUMERIC.search(host):
            return None if self.allows(host) else "must not be an address that is not public"
        if not _NAME.fullmatch(host):
            return "must have a host name of letters, digits, dots and hyphens"
        name = host.rstrip(".").lower()
        if not self.networks and any(name == local or name.endswith(f".{local}") for local in _LOCAL_NAMES):
            return "must not be a name of the local network"
        return None


def _listed(ports: Iterable[int]) -> str:
    return ", ".join(str(port) for port in sorted(ports)) or "1 to 65535"
