"""The policy `resend`: what was proved absent is sent again, while requests get lost and dispatch dies."""

import random

from chaos import kills as killing
from chaos.findings import Finding
from tests.e2e.stack import E2eStack

NAME = "resend"

# Requests that never arrive look to a dispatcher like those whose answer is lost.
_PROFILE = {"latency_ms": 50, "callback_delay_ms": 1000, "lost_rate": 0.1, "timeout_rate": 0.05}

# Attempts that others followed: which were unknown, and which the provider has had.
_FOLLOWED = """
SELECT a.message_id::text, a.number, a.outcome FROM dispatch_attempts a JOIN messages m ON m.id = a.message_id
WHERE m.sender = %(sender)s
  AND EXISTS (SELECT FROM dispatch_attempts l WHERE l.message_id = a.message_id AND l.number > a.number)
"""


def run(
    stack: E2eStack, *, sender: str, draw: random.Random, kills: int, messages: int, pause: float
) -> list[Finding]:
    """Kill dispatch `kills` times, `pause` seconds apart on average, while `messages` are sent."""
    found = killing.run(
        stack,
        sender=sender,
        draw=draw,
        kills=kills,
        messages=messages,
        pause=pause,
        name=NAME,
        victims=("dispatch",),
        profile=_PROFILE,
    )
    followed = stack.rows(_FOLLOWED, {"sender": sender})
    had = {(one.message_id, one.attempt) for one in stack.simulator.remembered([row[0] for row in followed])}
    without_cause = sum(outcome != "unknown" for _, _, outcome in followed)
    in_vain = sum((message_id, number) in had for message_id, number, _ in followed)
    return [
        *found,
        Finding(
            NAME,
            "sent again, and of those without an UNKNOWN before, or though the provider had it",
            "some; 0 and 0",
            f"{len(followed):,}; {without_cause} and {in_vain}",
            bool(followed) and not without_cause and not in_vain,
        ),
    ]
