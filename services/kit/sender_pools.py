"""Sender pools as the settings write them: `support=+15550001111,+15550002222 default=hello@example.com`."""

import re
from typing import Final

# The pool of sends that name neither a sender nor a pool.
DEFAULT: Final = "default"

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def parse_sender_pools(text: str) -> dict[str, list[str]]:
    """Return the senders of each pool; raises ValueError for what is no pool; addresses are not checked."""
    pools: dict[str, list[str]] = {}
    for entry in text.split():
        name, _, members = entry.partition("=")
        senders = [member for member in members.split(",") if member]
        if not _NAME.fullmatch(name) or not senders:
            raise ValueError(f"{entry!r} is not of the form pool=sender,sender")
        if name in pools:
            raise ValueError(f"the pool {name!r} is there twice")
        pools[name] = list(dict.fromkeys(senders))
    return pools
