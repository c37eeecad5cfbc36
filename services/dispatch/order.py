"""Keeps the messages of a conversation in order, while several batches are on their way at the same time."""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from services.ledger.claims import ClaimedMessage


class Part:
    """Messages of one batch that leave together: all that its conversations have in it."""

    def __init__(self, members: Sequence["Part"] = ()) -> None:
        self.messages: list[ClaimedMessage] = []
        # What has to leave before it: here, or messages that may be another dispatcher's.
        self.before: set[Part] = set()
        self.elsewhere: set[str] = set()
        self.left = asyncio.Event()
        # Parts that leave with it.
        self.members = members
        self.since = time.monotonic()

    @property
    def must_wait(self) -> bool:
        """Tell whether something that was claimed earlier has to leave first."""
        return bool(self.elsewhere) or any(not part.left.is_set() for part in self.before)

    async def wait(self) -> None:
        """Return when what was claimed earlier here has left."""
        for part in tuple(self.before):
            await part.left.wait()


def by_acceptance(message: ClaimedMessage) -> tuple[datetime, str]:
    """Return what messages are in order by: ids alone are in order of the clocks of those who gave them."""
    return message.create_time, message.id


def join(parts: Sequence[Part]) -> Part:
    """Return parts as one."""
    if len(parts) == 1:
        return parts[0]
    joined = Part(parts)
    joined.messages = sorted((message for part in parts for message in part.messages), key=by_acceptance)
    return joined


class Order:
    """Which conversations have messages on their way, of all batches of one dispatcher.

    A batch only ever waits for those that entered before it, so that no two wait for each other. What is
    kept in mind are the conversations of the batches under way.
    """

    def __init__(self) -> None:
        self._last: dict[str, Part] = {}

    @contextlib.contextmanager
    def enter(
        self, messages: Sequence[ClaimedMessage], elsewhere: Mapping[str, set[str]] | None = None
    ) -> Iterator[list[Part]]:
        """Yield a batch in parts: what may leave at once, then what waits for earlier messages.

        Batches must enter in the order of their claims. A part that is not told to have left before, has at
        the end. `elsewhere` has the messages that must leave before, by conversation, wherever they are: then
        each of these conversations is a part, and waits for them alone.
        """
        parts = self._divide(messages) if elsewhere is None else self._single_out(messages, elsewhere)
        try:
            yield parts
        finally:
            for part in parts:
                self.leave(part)

    def leave(self, part: Part) -> None:
        """Let those go that wait for a part."""
        for member in part.members:
            self.leave(member)
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

    def _single_out(
        self, messages: Sequence[ClaimedMessage], elsewhere: Mapping[str, set[str]]
    ) -> list[Part]:
        free = Part()
        held: dict[str, Part] = {}
        for message in messages:
            conversation = message.conversation_id
            part = free
            if conversation in elsewhere:
                part = held.get(conversation) or held.setdefault(conversation, Part())
                part.elsewhere = elsewhere[conversation]
            # Batches that find us alone again wait for it.
            self._last[conversation] = part
            part.messages.append(message)
        return [part for part in (free, *held.values()) if part.messages]
