"""The broker dies and loses all it has stored, again and again."""

import random
import time

from chaos.audit import audit
from chaos.findings import Finding
from chaos.load import PATIENCE, Load
from tests.e2e.stack import E2eStack, eventually

NAME = "broker"

_PROMISED = 10.0

_ACCEPTED = """
SELECT count(*) FROM messages WHERE sender = %(sender)s AND create_time > to_timestamp(%(since)s)
"""
# When the first of those was delivered that were accepted after a time: they have gone through the new store.
_NEXT = """
SELECT extract(epoch FROM min(e.create_time))::float8
FROM messages m JOIN message_events e ON e.message_id = m.id AND e.type = 'delivered'
WHERE m.sender = %(sender)s AND m.create_time > to_timestamp(%(since)s)
"""
# When the last of those was delivered that were accepted between two times; null while one is not.
_LAST = """
SELECT CASE WHEN bool_and(e.create_time IS NOT NULL) THEN extract(epoch FROM max(e.create_time))::float8 END
FROM messages m LEFT JOIN message_events e ON e.message_id = m.id AND e.type = 'delivered'
WHERE m.sender = %(sender)s AND m.create_time BETWEEN to_timestamp(%(since)s) AND to_timestamp(%(until)s)
"""


def run(
    stack: E2eStack,
    *,
    sender: str,
    draw: random.Random,
    losses: int,
    rate: float,
    promised: float = _PROMISED,
) -> list[Finding]:
    """Lose the broker `losses` times under a load of `rate` messages a second."""
    stack.simulate(callback_delay_ms=50)
    back: list[float] = []
    caught_up: list[float] = []
    with Load(stack, sender, rate=rate) as load:
        for _ in range(losses):
            began = time.time()
            time.sleep(draw.uniform(0.5, 1.5))
            # On a busy machine that need not be enough for a single message to come in.
            _await(stack, load, _ACCEPTED, "messages come in", sender=sender, since=began)
            until = time.time()
            dead, started = stack.lose_broker()
            following = _await(stack, load, _NEXT, "deliveries go on", sender=sender, since=dead)
            last = _await(stack, load, _LAST, "what it held arrives", sender=sender, since=began, until=until)
            back.append(max(0.0, following - started))
            caught_up.append(max(0.0, last - started))
    found = audit(stack, load.client)
    worst = max(back)
    return [
        Finding(
            NAME, "size of the run", "", f"store deleted {losses} times at {rate:g} messages/s", kept=True
        ),
        *found.findings(NAME),
        Finding(
            NAME,
            "server start to the next delivery",
            f"< {promised:g} s each",
            f"{worst:.1f} s at worst; the last of what it had held {max(caught_up):.1f} s",
            worst < promised,
        ),
    ]


def _await(stack: E2eStack, load: Load, query: str, what: str, **parameters: str | float) -> float:
    """Return the number a query answers, once there is one and it is not 0."""
    found: list[float] = []

    def known() -> bool:
        load.check()
        found[:] = [number for (number,) in stack.rows(query, parameters) if number]
        return bool(found)

    eventually(known, timeout=PATIENCE, what=what, report=stack.left_over)
    return found[0]
