"""The use case of languages: looks at each inbound message once, and keeps what follows from it."""

import asyncio
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from services.conversation import languages
from services.conversation.language import Guess, detect
from services.conversation.languages import LanguageChange
from services.kit import metrics
from services.kit.logs import get_logger
from services.ledger.database import Database

_log = get_logger(__name__)

# How far back the ledger is read when the broker has lost its store, and rows at a time.
_BACK: Final = timedelta(days=7)
_CATCH_UP: Final = 2000


class Listener:
    """Learns what language contacts write. Any number of processes may, of the same messages too."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, message_ids: Sequence[str]) -> None:
        """Look at messages that nobody has looked at; the others change nothing."""
        async with self._database.hot() as connection:
            texts = await languages.read_texts(connection, message_ids)
        changes: list[LanguageChange] = []
        if texts:
            # In a thread: statistics take a second to load, once, and a while for many texts.
            guesses = await asyncio.to_thread(_detect_all, texts)
            async with self._database.hot() as connection:
                changes += await languages.note_guesses(connection, guesses)
            for _, guess in guesses:
                metrics.LANGUAGES_DETECTED.labels(guess.language or "unknown").inc()
        async with self._database.hot() as connection:
            tenants = await languages.tenants_of_messages(connection, message_ids)
            if tenants:
                changes += await languages.share_with_tenants(connection, tenants)
        report_changes(changes)

    async def catch_up(self) -> None:
        """Look at what the ledger has of the last days, and nobody has looked at."""
        after: str | None = _first_id(datetime.now(UTC) - _BACK)
        while after is not None:
            async with self._database.hot() as connection:
                left = await languages.read_left(connection, after, _CATCH_UP)
            if left.message_ids:
                await self.read(left.message_ids)
            after = left.last_id


def report_changes(changes: Sequence[LanguageChange]) -> None:
    """Count and log changes of languages; the ledger has them already."""
    for change in changes:
        metrics.LANGUAGE_CHANGES.labels(change.new).inc()
        _log.info("conversation_language_changed", **change._asdict())


def _detect_all(texts: Sequence[tuple[str, str]]) -> list[tuple[str, Guess]]:
    return [(message_id, detect(text)) for message_id, text in texts]


def _first_id(time: datetime) -> str:
    """Return the smallest UUIDv7 of a time."""
    return str(uuid.UUID(int=int(time.timestamp() * 1000) << 80))
