"""The state table as the hot statements take it, and the words shared by them."""

from services.ledger.arrays import text_array
from services.ledger.states import MOVES

# A replay is somebody's decision: no outcome and no receipt brings a dead letter back to life.
_REPLAY = ("failed", "pending")

# "from>to" for every move that outcomes and receipts may make: the condition of each UPDATE that takes one.
LEGAL_MOVES = text_array(
    f"{source}>{target}"
    for source, targets in MOVES.items()
    for target in sorted(targets)
    if (source, target) != _REPLAY
)
