"""Language detection: what a person would say of a short text, and unknown where nobody could."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.conversation.language import CERTAIN, LEAST_CONFIDENCE, UNKNOWN, detect
from services.conversation.language_words import NEUTRAL, SEEDS
from tests.unit.conversation.language_samples import SAMPLES


@pytest.mark.parametrize(("text", "language"), SAMPLES)
def test_as_a_person_would(text: str, language: str | None) -> None:
    guess = detect(text)
    assert guess.language == language, guess
    assert (guess == UNKNOWN) == (language is None)


def test_there_are_samples_of_each() -> None:
    counts = {word: sum(label == word for _, label in SAMPLES) for word in ("en", "es", "pt", None)}
    assert min(counts.values()) >= 24


@pytest.mark.parametrize("language", ["en", "es", "pt"])
def test_no_seed_word_is_neutral(language: str) -> None:
    assert not {word for word, owner in SEEDS.items() if owner == language} & NEUTRAL


def test_numbers_and_addresses_say_nothing() -> None:
    assert detect("https://example.com/the/rent?you=are 42 the@example.com 12b") == UNKNOWN


def test_only_the_beginning_of_a_long_text_counts() -> None:
    assert (
        detect("gracias por todo, hasta el lunes. " * 40 + "thank you, see you on Monday. " * 4000).language
        == "es"
    )


def test_accents_may_be_composed_or_not() -> None:
    composed, decomposed = "man\u0303ana", "ma\u00f1ana"
    assert detect(composed) == detect(decomposed)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60))
def test_any_text_has_an_answer(text: str) -> None:
    guess = detect(text)
    if guess.language is None:
        assert guess == UNKNOWN
    else:
        assert guess.language in {"en", "es", "pt"}
        assert LEAST_CONFIDENCE <= guess.confidence <= CERTAIN
