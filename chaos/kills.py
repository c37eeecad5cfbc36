"""SIGKILL at random moments, while messages are accepted, published, sent and reported."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import psutil

from chaos.audit import audit
from chaos.findings import Finding
from chaos.load import PATIENCE, Load
from cli.embedded.spawn import is_alive
from tests.e2e.stack import E2eStack, eventually

NAME = "kills"

VICTIMS = ("dispatch", "message", "nats")

_AT_WORK = 0.5
_BEHIND = 200

# A provider that takes its time, so that attempts are under way whenever a dispatcher dies, fails now and
# then, and sometimes does not say what it did.
_PROFILE = {
    "latency_ms": 50,
    "callback_delay_ms": 200,
    "server_error_rate": 0.02,
    "timeout_rate": 0.02,
    "callback_duplicate_rate": 0.02,
}


def run(
    stack: E2eStack,
    *,
    sender: str,
    draw: random.Random,
    kills: int,
    messages: int,
    pause: float,
    name: str = NAME,
    victims: Sequence[str] = VICTIMS,
    profile: Mapping[str, float] = _PROFILE,
) -> list[Finding]:
    """Kill `kills` times, `pause` seconds apart on average, while `messages` are sent."""
    stack.simulate(**profile)
    killed: Counter[str] = Counter()
    with Load(stack, sender) as load:
        for number in range(kills):
            load.release(messages * (number + 1) // kills - messages * number // kills)
            # Every other kill finds a stack at work; the others come while something is still starting.
            if draw.random() < _AT_WORK:
                stack.await_health(timeout=PATIENCE)
            _keep_up(load, _BEHIND + 2 * messages // kills)
            time.sleep(draw.uniform(0, 2 * pause))
            killed[_kill(stack, draw, victims)] += 1
    found = audit(stack, load.client)
    stack.simulate(callback_delay_ms=100)
    each = ", ".join(f"{victim} {killed[victim]}" for victim in victims)
    size = f"{killed.total()} SIGKILLs ({each})"
    return [Finding(name, "size of the run", "", size, kept=True), *found.findings(name)]


def _keep_up(load: Load, most: int) -> None:
    """Wait until at most so many messages are unanswered: what is killed while it starts answers none."""

    def keeps_up() -> bool:
        load.check()
        return load.released - len(load.client.accepted) <= most

    eventually(
        keeps_up,
        timeout=PATIENCE,
        what=f"at most {most} messages are unanswered",
        report=lambda: f"{len(load.client.accepted)} of {load.released} are answered",
    )


def _kill(stack: E2eStack, draw: random.Random, victims: Sequence[str]) -> str:
    """Kill one of the victims that run, whatever it is doing, and return its name."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        name = draw.choice(victims)
        pid = stack.child(name)
        if pid is not None and _runs(pid):
            os.kill(pid, signal.SIGKILL)
            return name
        time.sleep(0.02)
    raise AssertionError(f"nothing to kill\n{stack.report()}")


def _runs(pid: int) -> bool:
    try:
        return is_alive(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False
