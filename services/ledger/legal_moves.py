"""The state table as the hot statements take it, and the words shared by them."""

from services.ledger.arrays import text_array
from services.ledger.states import MOVES

# "from>to" for every legal move: the condition of each UPDATE that moves a message.
LEGAL_MOVES = text_array(
    f"{source}>{target}" for source, targets in MOVES.items() for target in sorted(targets)
)
