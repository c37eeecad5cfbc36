"""A provider that takes nothing at all: how often is it asked while thousands wait?"""

import math
import time
from bisect import bisect

from chaos.audit import audit
from chaos.findings import Finding
from chaos.load import PATIENCE, Load
from tests.e2e.stack import E2eStack, eventually

NAME = "budget"

_PROMISED = 1.2

# Throttling opens no breaker, so that the budget of retries is all there is. Errors open it, and then it
# is what keeps the provider from being asked.
_DOWN = {"throttling": {"rate_limited_rate": 1.0}, "errors": {"server_error_rate": 1.0}}

_BATCH = 50
# What a budget has in hand at the start of a bad time, and a little for what is under way just then.
IN_HAND = 150
# What is delivered before, so that the budget is as large as success can make it.
_BEFORE = 1500

_SENDS = "SELECT extract(epoch FROM create_time)::float8 FROM messages WHERE sender = %(sender)s"
# Retries are counted when they are claimed, whatever becomes of them.
_ATTEMPTS = (
    "SELECT extract(epoch FROM e.create_time)::float8 FROM message_events e "
    "JOIN messages m ON m.id = e.message_id WHERE m.sender = %(sender)s AND e.type = 'sending'"
)


def run(
    stack: E2eStack, *, sender: str, waiting: int, window: float, windows: int = 2, slack: int = 0
) -> list[Finding]:
    """Let `waiting` messages come in within each window of so many seconds, some windows per kind of failure.

    The provider is mended at the end, and everything must be settled then. `slack` is for windows so short
    that the attempts which a budget has in hand at its start weigh.
    """
    findings: list[Finding] = []
    stack.simulate(callback_delay_ms=50)
    with Load(stack, sender, batch=_BATCH) as load:
        load.release(_BEFORE)
        _await_sent(stack, sender)
        for kind, profile in _DOWN.items():
            stack.simulate(**profile)
            began = time.time()
            load.rate = waiting / window
            time.sleep(windows * window)
            load.check()
            ended = time.time()
            findings.append(_judge(stack, sender, kind, (began, ended), window, slack))
        load.rate = 0.0
        stack.simulate(callback_delay_ms=50)
    found = audit(stack, load.client)
    findings.append(
        Finding(
            NAME, "given up, of those that waited", "", f"{found.given_up:,} of {found.accepted:,}", kept=True
        )
    )
    return [*found.findings(NAME), *findings]


def _await_sent(stack: E2eStack, sender: str) -> None:
    query = "SELECT count(*) FROM messages WHERE sender = %(sender)s AND state IN ('sent', 'delivered')"
    eventually(
        lambda: stack.rows(query, {"sender": sender}) == [(_BEFORE,)],
        timeout=PATIENCE,
        what="all is sent while the provider works",
        report=stack.left_over,
    )


def _judge(
    stack: E2eStack, sender: str, kind: str, between: tuple[float, float], window: float, slack: int
) -> Finding:
    """Compare attempts and new messages in each window between two times, a tenth of a window apart."""
    times = [
        sorted(moment for (moment,) in stack.rows(query, {"sender": sender})) for query in (_SENDS, _ATTEMPTS)
    ]
    began, ended = between
    worst, attempts_then, sends_then = 0.0, 0, 0
    for step in range(max(1, math.floor((ended - began - window) / (window / 10)) + 1)):
        start = began + step * window / 10
        sends, attempts = (bisect(moments, start + window) - bisect(moments, start) for moments in times)
        ratio = max(0, attempts - slack) / max(sends, 1)
        if ratio >= worst:
            worst, attempts_then, sends_then = ratio, attempts, sends
    return Finding(
        NAME,
        f"attempts per new message, down with {kind}",
        f"≤ {_PROMISED:g} in any {window:g} s",
        f"{worst:.2f} at worst ({attempts_then:,} attempts, {sends_then:,} new messages)",
        worst <= _PROMISED,
    )
