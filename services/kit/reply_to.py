"""Where e-mail is answered to, by sender: `desk@example.com=desk@in.example.com *=mail@in.example.com`."""

import re
from collections.abc import Mapping
from typing import Final

# Any sender that is not named.
_ANY: Final = "*"
_ADDRESS: Final = re.compile(
    r"""[^\s()<>@,;:\\"\[\]=]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?"""
)


def parse_reply_to(text: str) -> dict[str, str]:
    """Return the addresses by sender, domains in lower case; raises ValueError for what is no such pair."""
    found: dict[str, str] = {}
    for entry in text.split():
        sender, _, address = entry.partition("=")
        if not (_ADDRESS.fullmatch(address) and address.isascii()):
            raise ValueError(f"{entry!r} is not of the form sender=address")
        if sender != _ANY and not _ADDRESS.fullmatch(sender):
            raise ValueError(f"{sender!r} is neither the address of a sender nor *")
        found[_canonical(sender)] = _canonical(address)
    return found


def reply_to_of(sender: str, addresses: Mapping[str, str]) -> str:
    """Return where e-mail of a sender, a canonical address, is answered to; "" for the sender itself."""
    return addresses.get(sender) or addresses.get(_ANY, "")


def _canonical(address: str) -> str:
    local, at, domain = address.rpartition("@")
    return f"{local}{at}{domain.lower()}"
