"""Ten thousand pairs talk in both directions, each time written another way: do they stay together?

Group right means: what goes out and what comes back is one conversation, and nobody else is in it.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from posthouse.v1 import message_service_pb2 as pb
from services.ledger.drafts import Draft
from services.message.validation import check_send, inbound_draft
from services.providers.base import Inbound

PAIRS = 10_000
NOW = datetime(2026, 3, 1, tzinfo=UTC)

# Country codes with the lengths and beginnings of their numbers.
_COUNTRIES = [
    ("1", "212", 7), ("1", "787", 7), ("44", "7", 9), ("49", "151", 8), ("52", "55", 8), ("55", "119", 8),
    ("34", "6", 8), ("33", "6", 8), ("91", "98", 8), ("61", "4", 8), ("351", "91", 7), ("502", "5", 7),
]  # fmt: skip
_DOMAINS = ["example.com", "mail.example.org", "münchen.example", "correo.example.mx"]


class Pair(NamedTuple):
    ours: str
    theirs: str
    # Why the two ways of writing the contact are two addresses; "" when they are one.
    apart: str


def _phone_forms(code: str, rest: str) -> list[str]:
    grouped = f"{rest[:3]} {rest[3:6]} {rest[6:]}"
    return [
        f"+{code}{rest}",
        f"+{code} {grouped}",
        f"+{code} ({rest[:3]}) {rest[3:6]}-{rest[6:]}",
        f"+{code}.{rest[:3]}.{rest[3:6]}.{rest[6:]}",
        f"00{code}{rest}",
        f"00 {code} {grouped}",
        f"tel:+{code}-{rest[:3]}-{rest[3:]}",
        f" +{code}\u00a0{grouped.replace(' ', chr(0x2011))} ",
    ]


def _mail_forms(name: str, domain: str) -> list[str]:
    forms = [
        f"{name}@{domain}",
        f"{name}@{domain.upper() if domain.isascii() else domain}",
        f"{name}@{domain.title() if domain.isascii() else domain}",
        f"<{name}@{domain}>",
        f"Somebody <{name}@{domain}>",
        f'"Body, Some" <{name}@{domain}>',
        f"  {name}@{domain} ",
    ]
    return forms if domain.isascii() else [*forms, f"{name}@{domain.encode('idna').decode()}"]


def make_pairs(chance: random.Random) -> list[tuple[Pair, Callable[[str], str]]]:
    """Return pairs, each with a function that writes one of its addresses in some way."""
    made = []
    for number in range(PAIRS):
        if number % 3:
            code, start, digits = chance.choice(_COUNTRIES)
            theirs = _phone_forms(code, f"{start}{number:0{digits}d}")
            ours = _phone_forms("1", f"2125550{number % 50:03d}")
            pair = Pair(ours[0], theirs[0], "")
        else:
            domain = chance.choice(_DOMAINS)
            theirs = _mail_forms(f"guest.{number}", domain)
            ours = _mail_forms(f"desk{number % 50}", "house.example")
            # What people do now and then: another case before the @, or a tag after a plus.
            apart = {0: "case of the local part", 300: "tag after a plus"}.get(number % 600, "")
            pair = Pair(ours[0], theirs[0], apart)
        forms = {pair.ours: ours, pair.theirs: theirs}
        made.append((pair, lambda address, forms=forms: chance.choice(forms[address])))  # type: ignore[misc]
    return made


def _altered(written: str, apart: str) -> str:
    if apart == "case of the local part":
        return written.replace("guest", "Guest")
    return written.replace("@", "+tag@") if apart else written


def talk(pair: Pair, write: Callable[[str], str], event: int) -> tuple[Draft, Draft]:
    send = pb.SendMessageRequest(sender=write(pair.ours), recipient=write(pair.theirs), body="hello")
    reply = Inbound(
        event_key=f"{event}",
        channel="",
        sender=_altered(write(pair.theirs), pair.apart),
        recipient=write(pair.ours),
        body="hi",
    )
    return check_send(send, now=NOW, strict_phones=False), inbound_draft(reply, now=NOW)


def test_pairs_in_mixed_formats_stay_together() -> None:
    groups: dict[str, set[int]] = defaultdict(set)
    drafts = {}
    pairs = make_pairs(random.Random(5))  # noqa: S311 - no secrets
    for number, (pair, write) in enumerate(pairs):
        drafts[number] = talk(pair, write, number)
        for draft in drafts[number]:
            groups[draft.conversation_id].add(number)
    wrong = Counter(
        pair.apart
        for number, (pair, _) in enumerate(pairs)
        if drafts[number][0].conversation_id != drafts[number][1].conversation_id
        or groups[drafts[number][0].conversation_id] != {number}
    )
    # Every wrong one is a contact who wrote from an address that differs by our rules on purpose: local
    # parts and tags are the receiving host's to interpret (RFC 5321, 2.3.11).
    assert set(wrong) == {"case of the local part", "tag after a plus"}
    assert wrong.total() <= PAIRS * 0.005
    assert len(groups) == PAIRS + wrong.total()
