"""Tells English, Spanish and Portuguese apart: words that give them away, then statistics of letters."""

import re
import unicodedata
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

from services.conversation.language_words import LETTERS, NEUTRAL, SEEDS

if TYPE_CHECKING:
    from lingua import LanguageDetector

# As sure as anything gets: of two texts that are, the later one says what a contact speaks now.
CERTAIN: Final = 0.95

# Below it a guess is none.
LEAST_CONFIDENCE: Final = 0.4

# How much likelier a text is in a language for each word of it that gives the language away.
_SEED_WEIGHT: Final = 8.0
# So many such words, and none of another language, need no statistics.
_ENOUGH_SEEDS: Final = 2
# Without any such word, statistics need so many words, and must be so sure: names and typing errors look
# like some language, too.
_LEAST_WORDS: Final = 3
_LEAST_UNSEEDED: Final = 0.7

# The beginning of a long e-mail tells as much as all of it.
_LONGEST: Final = 1000

_NOT_PROSE = re.compile(r"(?:https?://|www\.)\S+|\S+@\S+|\S*\d\S*")
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")


class Guess(NamedTuple):
    """A language (en, es or pt), or None, and how sure that is, from 0 to CERTAIN; 0 with None."""

    language: str | None
    confidence: float


UNKNOWN: Final = Guess(None, 0.0)


def detect(text: str) -> Guess:
    """Return the language of a text, as far as a person could tell. May load statistics for seconds, once."""
    prose = _NOT_PROSE.sub(" ", unicodedata.normalize("NFC", text[:_LONGEST]).casefold())
    words = [word for found in _WORD.findall(prose) if (word := _bare(found)) not in NEUTRAL]
    if not words:
        return UNKNOWN
    hits = Counter(SEEDS[word] for word in words if word in SEEDS)
    hits.update({LETTERS[letter] for letter in LETTERS.keys() & set(prose)})
    if len(hits) == 1 and (hits.total() >= _ENOUGH_SEEDS or 2 * hits.total() >= len(words)):
        return Guess(next(iter(hits)), CERTAIN)
    if not hits and len(words) < _LEAST_WORDS:
        return UNKNOWN
    return _weigh(prose, hits)


def _weigh(prose: str, hits: Counter[str]) -> Guess:
    scores = {
        value.language.iso_code_639_1.name.lower(): value.value
        for value in _statistics().compute_language_confidence_values(prose)
    }
    weighed = {language: score * _SEED_WEIGHT ** hits[language] for language, score in scores.items()}
    total = sum(weighed.values())
    if not total:
        return UNKNOWN  # not a letter of ours: Cyrillic, Chinese, …
    best = max(weighed, key=weighed.__getitem__)
    confidence = round(min(weighed[best] / total, CERTAIN), 2)
    if confidence < (LEAST_CONFIDENCE if hits else _LEAST_UNSEEDED):
        return UNKNOWN
    return Guess(best, confidence)


def _bare(word: str) -> str:
    """Return a word without its accents, with the apostrophe of the table."""
    decomposed = unicodedata.normalize("NFD", word.replace("\u2019", "'"))
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


@cache
def _statistics() -> "LanguageDetector":
    # Loaded when a text first needs it: a tenth of a gigabyte that an idle service does without.
    from lingua import Language, LanguageDetectorBuilder  # noqa: PLC0415

    return LanguageDetectorBuilder.from_languages(
        Language.ENGLISH, Language.SPANISH, Language.PORTUGUESE
    ).build()
