"""Excerpts of messages with the words found between « and »."""

from collections.abc import Sequence
from typing import Final

from services.conversation.search_text import MAX_WORDS, Searchable, head_words, text_of
from services.conversation.words import word_spans

_LENGTH: Final = 200
# Characters before the first word found.
_LEAD: Final = 60


def excerpt(message: Searchable, places: Sequence[int]) -> str:
    """Return an excerpt around the first place found, or the beginning when only an address was found.

    `places` are positions of the vector: those of the words in order, then those of their stems once more.
    """
    text = text_of(message)
    head = len(head_words(message))
    words = word_spans(text)[: MAX_WORDS - head]
    count = head + len(words)
    # Beyond the highest position PostgreSQL has one place for all that follows.
    found = {(place - 1) % count - head for place in places if 0 < place <= 2 * count and place <= MAX_WORDS}
    spans = [words[place] for place in sorted(found) if place >= 0]
    start = _word_start(text, max(0, spans[0][0] - _LEAD)) if spans else 0
    end = min(len(text), start + _LENGTH)
    parts, done = [], start
    for first, last in spans:
        if last > end:
            break
        parts += [text[done:first], "«", text[first:last], "»"]
        done = last
    parts.append(text[done:end])
    inside = " ".join("".join(parts).split())
    return f"{'… ' if start else ''}{inside}{' …' if end < len(text) else ''}"


def _word_start(text: str, position: int) -> int:
    """Return the start of the first word at or after a position, so that none is cut in two."""
    if position == 0:
        return 0
    space = text.find(" ", position, position + _LEAD)
    return position if space < 0 else space + 1
