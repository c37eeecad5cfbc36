"""What of a message can be found by search, and the vector that PostgreSQL indexes of it."""

import re
from collections.abc import Mapping
from functools import lru_cache
from html.parser import HTMLParser
from typing import Final, NamedTuple

import phonenumbers

from services.conversation.words import fold_words

# The highest position a vector can hold is 16,383; words beyond are left out.
MAX_WORDS: Final = 16_000
MAX_CHARACTERS: Final = 200_000

# Configurations of PostgreSQL by language; each removes endings its own way.
CONFIGURATIONS: Final[Mapping[str, str]] = {"en": "english", "es": "spanish", "pt": "portuguese"}

_NORTH_AMERICAN: Final = re.compile(r"\+1[2-9][0-9]{9}")


class Searchable(NamedTuple):
    """The parts of a message that are searched."""

    sender: str
    recipient: str
    tenant_id: str | None
    subject: str | None
    body: str
    html: str | None


def head_words(message: Searchable) -> list[str]:
    """Return the words that stand before subject and body: both addresses and the tenant."""
    return [
        *address_words(message.sender),
        *address_words(message.recipient),
        *fold_words(message.tenant_id or ""),
    ]


def text_of(message: Searchable) -> str:
    """Return subject and body; the text of the HTML where there is no other body."""
    body = message.body
    if not body.strip() and message.html:
        body = _text_of_html(message.html)
    return f"{message.subject}\n{body}" if message.subject else body


def all_words(message: Searchable) -> list[str]:
    """Return every word in the order of the vector's positions."""
    return [*head_words(message), *fold_words(text_of(message)[:MAX_CHARACTERS])][:MAX_WORDS]


@lru_cache(maxsize=100_000)
def address_words(address: str) -> tuple[str, ...]:
    """Return the words of a canonical address; a number's are its digits, with and without country code."""
    if not address.startswith("+"):
        return tuple(fold_words(address))
    digits = address[1:]
    if _NORTH_AMERICAN.fullmatch(address):  # the library takes a tenth of a millisecond to say the same
        return digits, digits[1:]
    try:
        national = str(phonenumbers.parse(address, None).national_number)
    except phonenumbers.NumberParseException:
        return (digits,)
    return (digits, national) if national != digits else (digits,)


def vector_literal(words: list[str]) -> str:
    """Return the text of a tsvector with each word at its places, counted from 1."""
    places: dict[str, list[int]] = {}
    for place, word in enumerate(words, 1):
        places.setdefault(word, []).append(place)
    # PostgreSQL keeps 255 places of a word.
    return " ".join([f"'{word}':{','.join(map(str, found[:255]))}" for word, found in places.items()])


def _text_of_html(html: str) -> str:
    parser = _Text()
    parser.feed(html[:MAX_CHARACTERS])
    parser.close()
    return " ".join(parser.parts)


class _Text(HTMLParser):
    """Collects what a reader would see."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002 - HTMLParser's signature
        self._hidden += tag in {"script", "style"}

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in {"script", "style"} and self._hidden > 0

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)
