"""Words of texts: where they begin and end, and what of their writing does not count."""

import pytest

from services.conversation.words import fold_words, split_words, word_spans


@pytest.mark.parametrize(
    ("text", "words"),
    [
        # Vowel signs and viramas are part of the word they follow.
        ("आपकी बुकिंग हो गई है।", ["आपकी", "बुकिंग", "हो", "गई", "है"]),
        ("আপনার বুকিং নিশ্চিত", ["আপনার", "বুকিং", "নিশ্চিত"]),
        ("உங்கள் முன்பதிவு", ["உங்கள்", "முன்பதிவு"]),
        ("మీ బుకింగ్", ["మీ", "బుకింగ్"]),
        ("နေကောင်းလား", ["နေကောင်းလား"]),
        ("สวัสดีครับ ขอบคุณ", ["สวัสดีครับ", "ขอบคุณ"]),
    ],
)
def test_marks_belong_to_the_word_they_follow(text: str, words: list[str]) -> None:
    spans = [text[start:end] for start, end in word_spans(text)]
    assert spans == words
    # What is cut in the same places is one word each, and none of them has lost its vowels.
    folded = fold_words(text)
    assert len(folded) == len(words)
    assert [fold_words(word) for word in words] == [[word] for word in folded]


def test_vowel_signs_count() -> None:
    assert fold_words("कि") != fold_words("की")
    assert fold_words("ตี") != fold_words("ตู")
    assert fold_words("কল") != fold_words("কোল")


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("Re\u0301union", "reunion"),
        ("שָׁלוֹם", "שלום"),  # points
        ("كِتَابٌ", "كتاب"),  # short vowels
        ("أحمد", "احمد"),
        ("\u0958लम", "कलम"),  # nukta, composed or not
        ("क\u093cलम", "कलम"),
        ("क्\u200dष", "क्ष"),  # a joiner says how to draw it
        ("می\u200cخواهم", "میخواهم"),  # noqa: RUF001 - Persian
        ("1\ufe0f\u20e3", "1"),  # a keycap
        ("葛\U000e0100", "葛"),
    ],
)
def test_marks_that_people_leave_out_do_not_count(written: str, plain: str) -> None:
    assert fold_words(written) == fold_words(plain) == [plain]


def test_letters_of_mathematics_are_letters() -> None:
    # Their capitals have no small letters of their own.
    assert fold_words("\U0001d5e6\U0001d5d4\U0001d5df\U0001d5d8 \u211d") == ["sale", "r"]


def test_compositions_are_one() -> None:
    assert fold_words("ொ க\u0bca") == fold_words("க\u0bc6\u0bbe")


def test_a_mark_alone_is_no_word() -> None:
    assert list(split_words("\u093f \u0301 ा_ि")) == []


def test_places_are_those_of_the_text() -> None:
    text = "( हिन्दी, Çédille 101-a"
    assert [text[word.start : word.end] for word in split_words(text)] == ["हिन्दी", "Çédille", "101", "a"]
    assert [word.text for word in split_words(text)][1:] == ["cedille", "101", "a"]
