"""Compares what was accepted with what the simulator got and what the ledger says of it."""

import itertools
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from chaos.findings import Finding
from tests.e2e.good_client import GoodClient
from tests.e2e.stack import E2eStack

_REST = 600.0
_CHUNK = 10_000

# States in which a message stays without a provider having had it: each has its reason in the ledger.
_GIVEN_UP = frozenset({"failed", "cancelled"})
_UNSETTLED = frozenset({"pending", "scheduled", "sending"})

# Attempts that were recorded as unknown, and were not the message's last: the policy `resend`.
_RESENT = """
SELECT count(*) FROM dispatch_attempts a JOIN messages m ON m.id = a.message_id
WHERE m.sender = %(sender)s AND a.outcome = 'unknown'
  AND EXISTS (SELECT FROM dispatch_attempts l WHERE l.message_id = a.message_id AND l.number > a.number)
"""


@dataclass(frozen=True, slots=True)
class Audit:
    """Numbers of messages of one load, once all is at rest.

    `lost` are accepted ones that the simulator never got and the ledger has not given up; `doubled` are
    sends beyond a message's first; `extra` are repeats that were stored as other messages.
    """

    accepted: int
    lost: int
    doubled: int
    extra: int
    unsettled: int
    unknown: int
    given_up: int
    outbox: int
    # Attempts whose outcome was unknown for a while, those of them that others followed, and calls the client
    # had to repeat.
    asked: int
    resent: int
    repeats: int

    def findings(self, scenario: str) -> list[Finding]:
        """Return what holds in every scenario."""
        left = f"{self.unknown} unknown, {self.unsettled} unsettled, {self.outbox} in the outbox"
        return [
            Finding(
                scenario, "accepted messages lost", "0", f"{self.lost} of {self.accepted:,}", not self.lost
            ),
            Finding(
                scenario,
                "sent twice, or stored twice",
                "0",
                f"{self.doubled} and {self.extra} ({self.repeats:,} calls repeated, "
                f"{self.asked:,} attempts unknown for a while, {self.resent:,} proved absent and made again)",
                not self.doubled and not self.extra,
            ),
            Finding(
                scenario,
                "left over in the end",
                "nothing",
                left,
                not (self.unknown or self.unsettled or self.outbox),
            ),
        ]


def audit(stack: E2eStack, client: GoodClient, *, timeout: float = _REST) -> Audit:
    """Wait until nothing is left to do, then compare. What is left after `timeout` seconds is counted."""
    try:
        stack.await_rest(timeout=timeout)
    except AssertionError as error:
        print(error, file=sys.stderr)
    states = dict(
        stack.rows(
            "SELECT id::text, state FROM messages WHERE sender = %(sender)s AND direction = 'outbound'",
            {"sender": client.sender},
        )
    )
    seen: dict[str, int] = {}
    for chunk in _chunks(states):
        seen |= stack.simulator.seen(chunk)
    accepted = set(client.accepted.values())
    count = list(states.values()).count
    asked = stack.rows(
        "SELECT count(*) FROM message_events e JOIN messages m ON m.id = e.message_id "
        "WHERE m.sender = %(sender)s AND e.type = 'unknown'",
        {"sender": client.sender},
    )
    resent = stack.rows(_RESENT, {"sender": client.sender})
    return Audit(
        accepted=len(accepted),
        lost=sum(not seen.get(one) and states.get(one) not in _GIVEN_UP for one in accepted),
        doubled=sum(times - 1 for times in seen.values() if times > 1),
        extra=len(states.keys() - accepted),
        unsettled=sum(state in _UNSETTLED for state in states.values()),
        unknown=count("unknown"),
        given_up=sum(state in _GIVEN_UP for state in states.values()),
        outbox=stack.rows("SELECT count(*) FROM outbox")[0][0],
        asked=asked[0][0],
        resent=resent[0][0],
        repeats=client.repeats,
    )


def _chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    waiting = iter(ids)
    while chunk := list(itertools.islice(waiting, _CHUNK)):
        yield chunk
