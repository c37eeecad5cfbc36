"""Splits texts into words and folds them: no case, no accents, one form for what looks the same."""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

# Longer ones are cut, in texts and in queries alike.
_WORD_LENGTH: Final = 100

# Letters and digits of any script, with the combining marks that follow them.
_WORD = re.compile(r"[^\W_][^\W_\u0300-\u036f]*(?:[\u0300-\u036f]+[^\W_]*)*")
_KEPT = re.compile(r"[^\W_]+")
# Letters that have no decomposition of their own.
_LETTERS: Final = str.maketrans(
    {"ø": "o", "đ": "d", "ð": "d", "ł": "l", "ħ": "h", "\u0131": "i", "æ": "ae", "œ": "oe", "þ": "th"}
)


class Word(NamedTuple):
    """A folded word and where it stood in the text."""

    text: str
    start: int
    end: int


def split_words(text: str) -> Iterator[Word]:
    """Yield the words of a text in order; what has no letter or digit yields nothing."""
    for match in _WORD.finditer(text):
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
    decomposed = unicodedata.normalize("NFKD", word.casefold())
    return "".join(_KEPT.findall(decomposed.translate(_LETTERS).translate(_MARKS)))[:_WORD_LENGTH]


def stem_input(language: str, word: str) -> str:
    """Return a folded word with the accents that the stemmer of a language knows endings by.

    "habitacion" and "habitaciones" have one stem only when the former is written "habitación".
    """
    for ending, accented in _ENDINGS.get(language, ()):
        if word.endswith(ending):
            return word.removesuffix(ending) + accented
    return word


_ENDINGS: Final = {"es": [("ion", "ión")], "pt": [("cao", "ção"), ("coes", "ções")]}
_MARKS: Final = dict.fromkeys(range(0x300, 0x370))
