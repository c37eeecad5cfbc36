"""Enum values between their spellings."""

import pytest

from posthouse.v1 import message_pb2
from services.kit import enum_names
from services.kit.enum_names import CHANNEL, ENCODING, STATE, EnumNames
from services.ledger import states

ALL = [value for value in vars(enum_names).values() if isinstance(value, EnumNames)]


@pytest.mark.parametrize("names", ALL)
def test_words_and_numbers_are_one_to_one(names: EnumNames) -> None:
    assert names.words
    for word in names.words:
        assert names.word(names.number(word)) == word
        assert word == word.lower()
        # A prefix that was not taken off would show up in every word.
        assert not word.startswith(("channel", "message_", "segment_", "breaker_", "attempt_"))


@pytest.mark.parametrize("names", ALL)
def test_unspecified_is_the_empty_word(names: EnumNames) -> None:
    assert names.word(0) == ""
    assert names.number("") == names.number(None) == 0
    assert "" not in names.words


def test_known_values() -> None:
    assert CHANNEL.word(message_pb2.CHANNEL_SMS) == "sms"
    assert ENCODING.words == ("gsm7", "ucs2")
    assert set(STATE.words) == set(states.MOVES)


def test_unknown_values() -> None:
    assert not CHANNEL.knows(99)
    assert CHANNEL.knows(1)
    assert CHANNEL.word(99) == ""
    with pytest.raises(KeyError):
        CHANNEL.number("pigeon")
