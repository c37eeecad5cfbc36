"""The state table as the hot statements take it."""

from services.ledger.arrays import text_array
from services.ledger.states import MOVES

# A replay is somebody's decision: no outcome and no receipt brings a dead letter back to life.
_REPLAY = ("failed", "pending")

_MOVES = text_array(
    f"{source}>{target}"
    for source, targets in MOVES.items()
    for target in sorted(targets)
    if (source, target) != _REPLAY
)

# SQL: an array of "from>to" for every move that outcomes and receipts may make, the condition of each UPDATE
# that takes one. A constant of the statement, not a parameter: PostgreSQL hashes long constant arrays.
LEGAL_MOVES = f"'{_MOVES}'::text[]"
