"""The broker dies and loses all it has stored, again and again."""

import random
import time

from chaos.audit import audit
from chaos.findings import Finding
from chaos.load import Load
from tests.e2e.stack import E2eStack, eventually

NAME = "broker"

_PROMISED = 10.0

# When the first of those was delivered that were accepted after a time: they have gone through the broker.
_NEXT = """
SELECT extract(epoch FROM min(e.create_time))::float8
FROM messages m JOIN message_events e ON e.message_id = m.id AND e.type = 'delivered'
WHERE m.sender = %(sender)s AND m.create_time > to_timestamp(%(since)s)
"""
# When the last of those was delivered that were accepted before a time; null while one is not.
_LAST = """
SELECT CASE WHEN bool_and(e.create_time IS NOT NULL) THEN extract(epoch FROM max(e.create_time))::float8 END
FROM messages m LEFT JOIN message_events e ON e.message_id = m.id AND e.type = 'delivered'
WHERE m.sender = %(sender)s AND m.create_time BETWEEN to_timestamp(%(since)s - 30) AND to_timestamp(%(since)s)
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
            time.sleep(draw.uniform(0.5, 1.5))
            load.check()
            lost = time.time()
            started = stack.lose_broker()
            back.append(max(0.0, _await(stack, _NEXT, sender, lost) - started))
            caught_up.append(max(0.0, _await(stack, _LAST, sender, started) - started))
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


def _await(stack: E2eStack, query: str, sender: str, since: float) -> float:
    """Return the time a query answers, in seconds since 1970, once it does."""
    times: list[float] = []

    def known() -> bool:
        (moment,) = stack.rows(query, {"sender": sender, "since": since})[0]
        times.extend([] if moment is None else [moment])
        return bool(times)

    eventually(known, timeout=90, what=f"deliveries go on after the loss of the broker\n{stack.report()}")
    return times[0]
