"""Splits texts into words and folds them: no case, no accents, one form for what looks the same."""

import re
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from itertools import chain
from typing import Final, NamedTuple

# Longer ones are cut, in texts and in queries alike.
_WORD_LENGTH: Final = 100

_KEPT = re.compile(r"[^\W_]+")
# Where Unicode has the combining marks of scripts.
_MARKED: Final = (
    range(0x300, 0x3100),
    range(0xA66F, 0xAC00),
    range(0xFB1E, 0xFE30),
    range(0x10A00, 0x12000),
    range(0x1E000, 0x1E950),
)
# Canonical combining classes (Unicode, 4.3) of vowel signs, viramas, and vowels and tones of single scripts.
_VOWELS: Final = frozenset({0, 9, *range(84, 200)})
# Say how to draw what stands before them: joiners and variation selectors.
_DRAWING: Final = "\u034f\u180b-\u180d\u180f\u200c\u200d\ufe00-\ufe0f\U000e0100-\U000e01ef"
_DRAWS = re.compile(f"[{_DRAWING}]")
# Letters that have no decomposition of their own.
_LETTERS: Final = str.maketrans(
    {"ø": "o", "đ": "d", "ð": "d", "ł": "l", "ħ": "h", "\u0131": "i", "æ": "ae", "œ": "oe", "þ": "th"}
)


@cache
def _marks() -> tuple[str, str]:
    """Return the combining marks that count and those that do not, as the insides of character sets.

    Vowel signs and viramas count: without them words of India and its neighbours would be others. Accents,
    points of Hebrew and Arabic, nuktas and the like do not.
    """
    counting: list[str] = []
    others: list[str] = []
    for mark in map(chr, chain(*_MARKED)):
        if unicodedata.category(mark) in {"Mn", "Mc"} and not _DRAWS.match(mark):
            (counting if unicodedata.combining(mark) in _VOWELS else others).append(mark)
    return "".join(counting), "".join(others) + _DRAWING


@cache
def _word() -> re.Pattern[str]:
    """Return the pattern of letters and digits of any script, with the marks that follow them."""
    # Looking ahead is for speed: after most words comes a blank.
    return re.compile(rf"[^\W_]+(?:(?![\0-\u02ff])[{''.join(_marks())}]+[^\W_]*)*")


@cache
def _counting() -> re.Pattern[str]:
    """Return the pattern of what is kept of a word that has no composed letters."""
    counting, _ = _marks()
    return re.compile(rf"(?:[^\W_]|[{counting}])+")


class Word(NamedTuple):
    """A folded word and where it stood in the text."""

    text: str
    start: int
    end: int


def split_words(text: str) -> Iterator[Word]:
    """Yield the words of a text in order; what has no letter or digit yields nothing."""
    for match in _word().finditer(text):
        folded = fold_word(match[0])
        if folded:
            yield Word(folded, match.start(), match.end())


def word_spans(text: str) -> list[tuple[int, int]]:
    """Return where the words of a text begin and end, in order."""
    if text.isascii():
        return [match.span() for match in _KEPT.finditer(text)]
    return [(word.start, word.end) for word in split_words(text)]


def fold_words(text: str) -> list[str]:
    """Return the folded words of a text."""
    if text.isascii():
        return [word[:_WORD_LENGTH] for word in _KEPT.findall(text.lower())]
    return [word.text for word in split_words(text)]


@lru_cache(maxsize=50_000)
def fold_word(word: str) -> str:
    """Return one word without case and accents: "Éxito" is "exito", "Straße" is "strasse"."""
    if word.isascii():
        return word[:_WORD_LENGTH].lower()
    decomposed = unicodedata.normalize("NFKD", word.casefold()).casefold()
    return "".join(_counting().findall(decomposed.translate(_LETTERS)))[:_WORD_LENGTH]


def stem_input(language: str, word: str) -> str:
    """Return a folded word with the accents that the stemmer of a language knows endings by.

    "habitacion" and "habitaciones" have one stem only when the former is written "habitación".
    """
    for ending, accented in _ENDINGS.get(language, ()):
        if word.endswith(ending):
            return word.removesuffix(ending) + accented
    return word


_ENDINGS: Final = {"es": [("ion", "ión")], "pt": [("cao", "ção"), ("coes", "ções")]}
