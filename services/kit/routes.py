"""The routes as the settings write them: which providers carry a message, and in what order."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from zlib import crc32

_RULE: Final = re.compile(r"(?P<channel>[a-z][a-z0-9_]*)(?:\[(?P<conditions>[^\]]*)\])?=(?P<steps>.*)")
_PREFIX: Final = re.compile(r"\+[1-9][0-9]{0,14}")
_MOST_WEIGHT: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Share:
    """A provider that gets `weight` parts of what reaches its step."""

    provider: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Choice:
    """A provider in the order of one message. `position` counts from 1; `share` is 3/4, or empty."""

    provider: str
    position: int
    share: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """One route: the messages it is for, and its steps, each of one provider or of several that share it.

    `prefix` is what the recipient's number begins with, `sender` the canonical address sent from; empty: any.
    """

    channel: str
    name: str
    steps: tuple[tuple[Share, ...], ...]
    prefix: str = ""
    sender: str = ""

    def matches(self, sender: str, recipient: str) -> bool:
        """Tell whether the route is for messages between two canonical addresses."""
        return (not self.sender or self.sender == sender) and recipient.startswith(self.prefix)

    @property
    def providers(self) -> list[str]:
        """Return every provider of the route, step by step."""
        return [share.provider for step in self.steps for share in step]

    def order(self, key: str) -> list[Choice]:
        """Return every provider in the order a message has them; the same key gives the same order."""
        choices: list[Choice] = []
        for position, shares in enumerate(self.steps, 1):
            total = sum(share.weight for share in shares)
            for share in _drawn(shares, total, f"{key}/{position}"):
                part = f"{share.weight}/{total}" if len(shares) > 1 else ""
                choices.append(Choice(share.provider, position, part))
        return choices


def _drawn(shares: Sequence[Share], total: int, key: str) -> Iterator[Share]:
    """Yield the one the key falls to, then the others from the heaviest on."""
    if len(shares) == 1:
        yield shares[0]
        return
    point = crc32(key.encode()) % total
    first = shares[0]
    for share in shares:
        first = share
        if point < share.weight:
            break
        point -= share.weight
    yield first
    yield from sorted((share for share in shares if share is not first), key=lambda share: -share.weight)


class Routes:
    """All routes. Of those that match, one with a sender goes first, then the one with the longest prefix."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules: dict[str, list[Rule]] = {}
        for rule in rules:
            self._rules.setdefault(rule.channel, []).append(rule)
        # Per channel, its general route's providers first.
        self.providers: dict[str, list[str]] = {}
        for channel, known in self._rules.items():
            known.sort(key=lambda rule: (bool(rule.sender), len(rule.prefix)))
            names = [name for rule in known for name in rule.providers]
            self.providers[channel] = list(dict.fromkeys(names))
            known.reverse()

    def find(self, channel: str, sender: str, recipient: str) -> Rule | None:
        """Return the route of a message between two canonical addresses; None when there is none."""
        return next((rule for rule in self._rules.get(channel, ()) if rule.matches(sender, recipient)), None)

    def only(self, channel: str) -> Rule | None:
        """Return the route that every message of a channel takes in one order; None when it depends."""
        rules = self._rules.get(channel, ())
        if len(rules) != 1 or rules[0].prefix or rules[0].sender:
            return None
        return rules[0] if all(len(step) == 1 for step in rules[0].steps) else None


@lru_cache(maxsize=16)
def parse_routes(text: str) -> Routes:
    """Return the routes of `sms=a,b sms[to=+44]=c:3|d:1,a email[from=x@y.org]=e`.

    Commas part providers in order of preference, bars those that share a place by weight. Raises ValueError
    that says which route, and what of it, is wrong.
    """
    rules: list[Rule] = []
    for part in text.split():
        rule = _parse_rule(part)
        if any((r.channel, r.prefix, r.sender) == (rule.channel, rule.prefix, rule.sender) for r in rules):
            raise ValueError(f"{part!r}: there is another route for {rule.name}")
        rules.append(rule)
    return Routes(rules)


def _parse_rule(part: str) -> Rule:
    found = _RULE.fullmatch(part)
    if not found:
        raise ValueError(f"{part!r} is not of the form channel=provider,provider")
    channel = found["channel"]
    conditions = _parse_conditions(part, channel, found["conditions"])
    steps = tuple(_parse_step(part, step) for step in found["steps"].split(",") if step)
    names = [share.provider for step in steps for share in step]
    if not names:
        raise ValueError(f"{part!r} is not of the form channel=provider,provider")
    if len(set(names)) < len(names):
        raise ValueError(f"{part!r}: a provider is named twice")
    name = part.removesuffix(f"={found['steps']}")
    return Rule(channel, name, steps, conditions.get("to", ""), conditions.get("from", ""))


def _parse_conditions(part: str, channel: str, text: str | None) -> dict[str, str]:
    conditions: dict[str, str] = {}
    for condition in (text or "").split(",") if text is not None else ():
        name, _, value = condition.partition("=")
        if name not in ("to", "from") or not value or name in conditions:
            raise ValueError(f"{part!r}: conditions are to=+prefix and from=sender, each once")
        if name == "to" and (channel == "email" or not _PREFIX.fullmatch(value)):
            raise ValueError(f"{part!r}: to must be + and the first digits of phone numbers")
        conditions[name] = value
    return conditions


def _parse_step(part: str, step: str) -> tuple[Share, ...]:
    shares = []
    for share in step.split("|"):
        name, colon, weight = share.partition(":")
        if not name:
            raise ValueError(f"{part!r}: a provider has no name")
        if colon and not (weight.isascii() and weight.isdigit() and 0 < int(weight[:9]) <= _MOST_WEIGHT):
            raise ValueError(f"{part!r}: the weight of {name} must be a whole number from 1")
        shares.append(Share(name, int(weight) if colon else 1))
    return tuple(shares)
