"""SIGTERM under load: whoever is asked to stop finishes what it has, and says so with exit code 0."""

import os
import random
import re
import signal
import time
from collections import Counter

import psutil

from chaos.audit import audit
from chaos.findings import Finding
from chaos.load import PATIENCE, Load
from cli.embedded.spawn import wait_gone
from services.kit.config import Settings
from tests.e2e.stack import SERVICES, E2eStack

NAME = "drains"

_PROFILE = {"latency_ms": 100, "callback_delay_ms": 100}
# What `up` gives its children beyond the grace they give themselves.
_SLACK = 2.0


def run(stack: E2eStack, *, sender: str, draw: random.Random, sigterms: int, rate: float) -> list[Finding]:
    """Stop one process after the other, `sigterms` times, under a load of `rate` messages a second."""
    stack.simulate(**_PROFILE)
    fields = Settings.model_fields
    grace = float(fields["drain_notice"].default) + float(fields["shutdown_grace"].default)
    before = _exits(stack)
    stopped: Counter[str] = Counter()
    slowest = 0.0
    with Load(stack, sender, rate=rate) as load:
        for _ in range(sigterms):
            stack.await_health(timeout=PATIENCE)
            time.sleep(draw.uniform(0.0, 0.5))
            load.check()
            name = draw.choice(SERVICES)
            slowest = max(slowest, stop(stack, name))
            stopped[name] += 1
    exits = _exits(stack) - before
    well = sum(exits[name, "0"] for name in SERVICES)
    found = audit(stack, load.client)
    cut_short = cut_short_attempts(stack, sender)
    stack.simulate(callback_delay_ms=100)
    each = ", ".join(f"{name} {stopped[name]}" for name in SERVICES)
    size = f"{sigterms} SIGTERMs ({each}) at {rate:g} messages/s"
    return [
        Finding(NAME, "size of the run", "", size, kept=True),
        *found.findings(NAME),
        Finding(NAME, "exit code 0", f"{sigterms}", f"{well} of {exits.total()}", well == sigterms),
        Finding(
            NAME,
            "time to stop",
            f"≤ {grace:g} s, {_SLACK:g} s to close",
            f"{slowest:.1f} s at worst",
            slowest <= grace + _SLACK,
        ),
        Finding(NAME, "attempts cut short", "0", f"{cut_short}", not cut_short),
    ]


def stop(stack: E2eStack, name: str) -> float:
    """Stop a process and return how many seconds that took, once it runs again."""
    pid = stack.child(name)
    assert pid is not None, f"{name} is down"
    process = psutil.Process(pid)
    began = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    assert not wait_gone([process], timeout=60), f"{name} does not stop\n{stack.report()}"
    took = time.monotonic() - began
    stack.await_restart(name, pid)
    return took


def _exits(stack: E2eStack) -> Counter[tuple[str, str]]:
    """Return how often each process has ended how, as `up` says."""
    text = stack.log.read_text()
    return Counter(re.findall(r"\* (\w+) (?:stopped with exit code (\d+)|was ended by \w+);", text))


def cut_short_attempts(stack: E2eStack, sender: str) -> int:
    """Return the number of attempts whose dispatcher left before their end."""
    query = (
        "SELECT count(*) FROM message_events e JOIN messages m ON m.id = e.message_id "
        "WHERE m.sender = %(sender)s AND e.error_code = 'dispatcher_lost'"
    )
    count: int = stack.rows(query, {"sender": sender})[0][0]
    return count
