"""A rollout under load: every process is restarted, one after the other, as an upgrade would do it."""

from chaos.audit import audit
from chaos.drains import cut_short_attempts, stop
from chaos.findings import Finding
from chaos.load import PATIENCE, Load
from tests.e2e.stack import SERVICES, E2eStack

NAME = "rolling"

_PROFILE = {"latency_ms": 50, "callback_delay_ms": 100}
# What says: come back, with the same key. An internal error does not.
_STATUSES = frozenset({"no answer", "429", "502", "503", "504"})
# CANCELLED is what gRPC's core says of a call that reached a server in the instant of its stop.
_CODES = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "ABORTED", "CANCELLED"})


def run(stack: E2eStack, *, sender: str, rounds: int, rate: float) -> list[Finding]:
    """Restart all processes `rounds` times under a load of `rate` messages a second."""
    stack.simulate(**_PROFILE)
    slowest = 0.0
    with Load(stack, sender, rate=rate) as load:
        for _ in range(rounds):
            for name in SERVICES:
                stack.await_health(timeout=PATIENCE)
                load.check()
                slowest = max(slowest, stop(stack, name))
    refusals = load.client.refusals
    found = audit(stack, load.client)
    cut_short = cut_short_attempts(stack, sender)
    stack.simulate(callback_delay_ms=100)
    seen = ", ".join(f"{kind} {times}" for kind, times in sorted(refusals.items())) or "none"
    others = refusals.keys() - _STATUSES - _CODES
    size = f"{rounds} restarts of each of {len(SERVICES)} processes at {rate:g} messages/s"
    return [
        Finding(NAME, "size of the run", "", size, kept=True),
        *found.findings(NAME),
        Finding(NAME, "errors that clients saw", "only ones to repeat", seen, not others),
        Finding(NAME, "attempts cut short", "0", f"{cut_short}", not cut_short),
        Finding(NAME, "time to stop", "", f"{slowest:.1f} s at worst", kept=True),
    ]
