"""The message states and the one table that says which moves are legal."""

from typing import Final

SCHEDULED: Final = "scheduled"
PENDING: Final = "pending"
SENDING: Final = "sending"
SENT: Final = "sent"
DELIVERED: Final = "delivered"
READ: Final = "read"
FAILED: Final = "failed"
UNDELIVERED: Final = "undelivered"
CANCELLED: Final = "cancelled"
UNKNOWN: Final = "unknown"
RECEIVED: Final = "received"

# From each state, the states a message may move to. docs/architecture.md draws it.
MOVES: Final[dict[str, frozenset[str]]] = {
    SCHEDULED: frozenset({PENDING, SENDING, CANCELLED, FAILED}),
    # What waits to be sent again may turn out to have been taken the first time.
    PENDING: frozenset({SENDING, SENT, DELIVERED, READ, CANCELLED, FAILED}),
    # A receipt may overtake the answer to the send, hence DELIVERED, READ and UNDELIVERED.
    SENDING: frozenset({PENDING, SENT, DELIVERED, READ, FAILED, UNDELIVERED, UNKNOWN}),
    UNKNOWN: frozenset({PENDING, SENT, DELIVERED, READ, FAILED, UNDELIVERED}),
    SENT: frozenset({DELIVERED, READ, UNDELIVERED}),
    # Carriers do report "undelivered" and correct themselves, never the other way round.
    UNDELIVERED: frozenset({DELIVERED, READ}),
    DELIVERED: frozenset({READ}),
    READ: frozenset(),
    # PENDING only by replay of its dead letter. What was given up or cancelled may have arrived all the same:
    # an attempt of unknown outcome had been taken.
    FAILED: frozenset({PENDING, DELIVERED, READ}),
    CANCELLED: frozenset({DELIVERED, READ}),
    RECEIVED: frozenset(),
}

# States no dispatcher and no timer will change any more.
TERMINAL: Final = frozenset({DELIVERED, READ, FAILED, UNDELIVERED, CANCELLED, RECEIVED})

# Where most messages never come, so that an index of the events that brought the others there is small.
RARE: Final = frozenset({FAILED, UNDELIVERED, CANCELLED, UNKNOWN})

# States a delivery receipt may report.
REPORTABLE: Final = (SENT, DELIVERED, READ, UNDELIVERED, FAILED)


def can_move(current: str, target: str) -> bool:
    """Tell whether a message may move from one state to another."""
    return target in MOVES[current]
