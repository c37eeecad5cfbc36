"""Fault points: places where a test can have the process killed, as if the machine had lost power there.

They are off unless POSTHOUSE_FAULT_POINTS names some, and then cost nothing but a set look-up.
"""

import os
import signal
from typing import Final

from services.kit.logs import get_logger

_log = get_logger(__name__)

# Every point there is: those an accepted message passes, in order, and those of what is done by hand.
# Dispatch has those that begin with it.
POINTS: Final = (
    "message.before_transaction",
    "message.after_webhook_log",
    "message.after_accept_statement",
    "message.after_receipts_statement",
    "message.after_override_statement",
    "message.after_consent_statement",
    "message.after_commit",
    "message.before_events_published",
    "message.before_envelope_published",
    "message.after_envelope_published",
    "message.before_outbox_delete",
    "message.before_cancel",
    "message.after_cancel",
    "message.before_opt_out",
    "message.after_opt_out",
    "message.before_erasure",
    "message.after_erasure",
    "message.after_erasure_cancel",
    "message.after_erasure_step",
    "message.before_api_key",
    "message.after_api_key",
    "dispatch.before_claim",
    "dispatch.after_claim",
    "dispatch.after_ack",
    "dispatch.before_send",
    "dispatch.after_send",
    "dispatch.after_settle",
)


def parse_fault_points(spec: str) -> dict[str, int]:
    """Return at which pass of each point to die: `name` at the first, `name@3` at the third.

    Raises ValueError for what is no fault point.
    """
    passes: dict[str, int] = {}
    for part in spec.split(","):
        name, _, count = part.strip().partition("@")
        if not name:
            continue
        if name not in POINTS or not (count or "1").isdigit():
            raise ValueError(f"there is no fault point {part.strip()!r}")
        passes[name] = int(count or "1")
    return passes


class FaultPoints:
    """The points at which this process is to die: `name` at the first pass, `name@3` at the third."""

    def __init__(self, spec: str = "") -> None:
        self._left = parse_fault_points(spec)
        if self._left:
            _log.warning("fault_points_armed", points=sorted(self._left))

    def reach(self, name: str) -> None:
        """Die here and now, with SIGKILL, if this is the pass of the point that was asked for."""
        if not self._left or name not in self._left:
            return
        self._left[name] -= 1
        if self._left[name] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
