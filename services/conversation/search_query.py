"""The language of searches: words, "a phrase", pre*, -not; read from text, and turned into a tsquery."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from services.conversation.words import fold_words
from services.kit.errors import InvalidRequestError
from services.kit.fields import read_label

MAX_QUERY_LENGTH: Final = 500
MAX_TERMS: Final = 32

# A telephone number as people write it, with the spaces inside. None has more than 15 digits: what follows
# is another one.
_PHONE = r"\+?\(?[0-9](?:[ ().\u00a0\u2010-\u2015-]*[0-9]){6,14}"
_TERM = re.compile(rf'(?P<not>-?)(?:"(?P<phrase>[^"]*)"?|(?P<phone>{_PHONE})(?=[\s"]|$)|(?P<word>[^\s"]+))')
# So many digits are a number even without a plus.
_PHONE_DIGITS: Final = 10

# The stems of a word, one per language in which it has one of its own.
Stems = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Term:
    """One thing that a message must have, or must not.

    `words` are folded, and stand side by side when there are several. The last one is only the beginning
    of a word when `prefix` is set. `digits` is the same in one word, for telephone numbers.
    """

    words: tuple[str, ...]
    negated: bool = False
    prefix: bool = False
    quoted: bool = False
    digits: str = ""


def read_query(field: str, text: str) -> list[Term]:
    """Return the terms of a query, or raise InvalidRequestError naming the field."""
    read_label(field, text, longest=MAX_QUERY_LENGTH)
    terms = [term for match in _TERM.finditer(text) if (term := _read_term(match)).words]
    if len(terms) > MAX_TERMS:
        raise InvalidRequestError.field(field, f"must not have more than {MAX_TERMS} terms")
    if not terms:
        raise InvalidRequestError.field(field, "must have a word: letters or digits")
    if all(term.negated for term in terms):
        raise InvalidRequestError.field(field, "must have a word that is not excluded")
    return terms


def stemmable(terms: Sequence[Term]) -> list[str]:
    """Return the words whose stems count: single ones, neither quoted nor cut short."""
    return [
        term.words[0]
        for term in terms
        if len(term.words) == 1 and not (term.prefix or term.quoted or term.digits)
    ]


def tsquery(terms: Sequence[Term], stems: Stems) -> str:
    """Return the text of the tsquery; words are letters, digits and marks, so nothing needs quoting."""
    return " & ".join(_term_query(term, stems) for term in terms)


def matches(terms: Sequence[Term], stems: Stems) -> tuple[list[str], list[str]]:
    """Return the lexemes to highlight, and the beginnings of such."""
    wanted = [term for term in terms if not term.negated]
    exact = {word for term in wanted for word in (term.words[:-1] if term.prefix else term.words)}
    exact.update(stem for word in stemmable(wanted) for stem in stems.get(word, ()))
    exact.update(term.digits for term in wanted if term.digits)
    return sorted(exact), sorted({term.words[-1] for term in wanted if term.prefix})


def _read_term(match: re.Match[str]) -> Term:
    negated = bool(match["not"])
    phone = match["phone"]
    if phone is not None:
        digits = re.sub("[^0-9]", "", phone)
        if len(digits) >= _PHONE_DIGITS or phone.startswith("+"):
            digits = digits.removeprefix("00")
            return Term(tuple(fold_words(phone)), negated=negated, digits=digits)
        return Term(tuple(fold_words(phone)), negated=negated)
    if match["phrase"] is not None:
        return Term(tuple(fold_words(match["phrase"])), negated=negated, quoted=True)
    word = match["word"]
    return Term(tuple(fold_words(word)), negated=negated, prefix=word.endswith("*"))


def _term_query(term: Term, stems: Stems) -> str:
    words = [f"'{word}'" for word in term.words]
    if term.prefix:
        words[-1] += ":*"
    query = " <-> ".join(words)
    others = [*stems.get(term.words[0], ())] if stemmable([term]) else []
    if term.digits and term.digits not in term.words:
        others.append(term.digits)
    if others:
        query = " | ".join([f"({query})", *(f"'{other}'" for other in others)])
    return f"{'!' if term.negated else ''}({query})"
