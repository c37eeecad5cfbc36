"""Limits of bulk senders, as the setting writes them."""

from dataclasses import dataclass, field
from hashlib import sha256

from services.kit.networks import Network, parse_address, parse_networks, split_list

_DIGEST = "sha256:"
_DIGEST_LENGTH = 64
_LARGEST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class BulkLimits:
    """Limits of bulk senders, by API key, by prefix of keys, and by network."""

    digests: dict[str, int] = field(default_factory=dict)
    prefixes: dict[str, int] = field(default_factory=dict)
    networks: dict[Network, int] = field(default_factory=dict)
    everyone: int = 0

    def limit(self, credential: str, address: str) -> int:
        """Return the highest limit that fits a caller, 0 without one."""
        found = [self.everyone]
        if credential:
            found.append(self.digests.get(sha256(credential.encode()).hexdigest(), 0))
            found += [limit for prefix, limit in self.prefixes.items() if credential.startswith(prefix)]
        place = parse_address(address) if self.networks else None
        if place is not None:
            found += [limit for network, limit in self.networks.items() if place in network]
        return max(found)


def parse_bulk_limits(text: str) -> BulkLimits:
    """Return the limits in `who=requests who=requests`; raises ValueError that repeats no key.

    `who` is an API key, `sha256:` and the hexadecimal digest of one, a prefix of keys with `*` at its
    end, an address or network, or `*` alone for everyone.
    """
    limits = BulkLimits()
    everyone = 0
    for position, entry in enumerate(split_list(text), 1):
        who, _, number = entry.rpartition("=")
        if not who or not number.isascii() or not number.isdigit() or not 1 <= int(number) <= _LARGEST:
            raise ValueError(f"entry {position} is not of the form who=requests")
        limit = int(number)
        if who == "*":
            everyone = max(everyone, limit)
        elif who.endswith("*"):
            limits.prefixes[who[:-1]] = limit
        elif who.startswith(_DIGEST):
            digest = who.removeprefix(_DIGEST).lower()
            if len(digest) != _DIGEST_LENGTH or set(digest) - set("0123456789abcdef"):
                raise ValueError(f"entry {position} is not a SHA-256 digest in hexadecimal")
            limits.digests[digest] = limit
        elif parse_address(who.partition("/")[0]) is not None:
            limits.networks[parse_networks(who)[0]] = limit
        else:
            limits.digests[sha256(who.encode()).hexdigest()] = limit
    return BulkLimits(limits.digests, limits.prefixes, limits.networks, everyone)
