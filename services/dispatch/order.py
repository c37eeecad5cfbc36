"""Keeps the messages of a conversation in order, while several batches are on their way at the same time."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence

from services.ledger.claims import ClaimedMessage


class Part:
    """Messages of one batch that leave together: all that its conversations have in it."""

    def __init__(self) -> None:
        self.messages: list[ClaimedMessage] = []
        # What has to leave before it.
        self.before: set[Part] = set()
        self.left = asyncio.Event()

    @property
    def must_wait(self) -> bool:
        """Tell whether something that was claimed earlier has to leave first."""
        return any(not part.left.is_set() for part in self.before)

    async def wait(self) -> None:
        """Return when it may leave."""
        for part in tuple(self.before):
            await part.left.wait()


class Order:
    """Which conversations have messages on their way, of all batches of one dispatcher.

    A batch only ever waits for those that entered before it, so that no two wait for each other. What is
    kept in mind are the conversations of the batches under way.
    """

    def __init__(self) -> None:
        self._last: dict[str, Part] = {}

    @contextlib.contextmanager
    def enter(self, messages: Sequence[ClaimedMessage]) -> Iterator[list[Part]]:
        """Yield a batch in one part or two: what may leave at once, then what waits for earlier batches.

        Batches must enter in the order of their claims. A part that is not told to have left before, has at
        the end.
        """
        parts = self._divide(messages)
        try:
            yield parts
        finally:
            for part in parts:
                self.leave(part)

    def leave(self, part: Part) -> None:
        """Let those go that wait for a part."""
        if part.left.is_set():
            return
        part.left.set()
        # What it waited for itself is gone: a chain of parts must not keep all of its links.
        part.before.clear()
        for message in part.messages:
            if self._last.get(message.conversation_id) is part:
                del self._last[message.conversation_id]

    def _divide(self, messages: Sequence[ClaimedMessage]) -> list[Part]:
        free, held = Part(), Part()
        last = self._last
        for message in messages:
            conversation = message.conversation_id
            part = last.get(conversation)
            if part is None:
                last[conversation] = part = free
            elif part is not free and part is not held:
                held.before.add(part)
                last[conversation] = part = held
            part.messages.append(message)
        return [part for part in (free, held) if part.messages]
