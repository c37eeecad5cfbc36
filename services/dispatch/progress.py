"""How far a batch has come: what is settled, and what a provider has been given."""

from collections.abc import Sequence

from services.ledger.claims import ClaimedMessage
from services.ledger.outcomes import Settlement


class Progress:
    """Keeps account of a batch by the lists it is worked on in, which costs nothing per message."""

    def __init__(self, claimed: Sequence[ClaimedMessage]) -> None:
        self.claimed = claimed
        # Messages whose settlements are not stored yet.
        self.open_count = len(claimed)
        self._begun: list[Sequence[ClaimedMessage]] = []
        self._settling: list[Sequence[Settlement]] = []

    def begin(self, messages: Sequence[ClaimedMessage]) -> bool:
        """Note that a provider is given these messages now; return true."""
        self._begun.append(messages)
        return True

    def settling(self, settlements: Sequence[Settlement]) -> bool:
        """Note what messages have come to, before it is stored; tell whether these are the last."""
        self._settling.append(settlements)
        return self.open_count == len(settlements)

    def settled(self, settlements: Sequence[Settlement]) -> None:
        """Note that settlements are stored."""
        self.open_count -= len(settlements)

    def untouched(self) -> list[ClaimedMessage]:
        """Return the messages that have come to nothing yet and that no provider has been given."""
        known = {one.id for part in self._begun for one in part}
        known.update(one.id for part in self._settling for one in part)
        return [message for message in self.claimed if message.id not in known]
