"""Segments of an SMS, against a slow reference that fills segments one character at a time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.message.segments import BASIC, EXTENSION, measure


def reference(body: str) -> tuple[str, int, int]:
    """Return encoding, segments and units, one character after the other."""
    gsm7 = all(character in BASIC or character in EXTENSION for character in body)
    alone, part = (160, 153) if gsm7 else (70, 67)

    def width(character: str) -> int:
        if gsm7:
            return 2 if character in EXTENSION else 1
        return 2 if ord(character) > 0xFFFF else 1

    units = sum(width(character) for character in body)
    encoding = "gsm7" if gsm7 else "ucs2"
    if units <= alone:
        return encoding, 1 if body else 0, units
    segments, room = 1, part
    for character in body:
        if width(character) > room:
            segments, room = segments + 1, part
        room -= width(character)
    return encoding, segments, units


@pytest.mark.parametrize(
    ("body", "encoding", "count", "units"),
    [
        ("", "gsm7", 0, 0),
        ("a", "gsm7", 1, 1),
        ("a" * 160, "gsm7", 1, 160),
        ("a" * 161, "gsm7", 2, 161),
        ("a" * 306, "gsm7", 2, 306),
        ("a" * 307, "gsm7", 3, 307),
        ("€" * 80, "gsm7", 1, 160),
        ("€" * 81, "gsm7", 2, 162),
        ("]" * 152, "gsm7", 2, 304),
        ("]" * 153, "gsm7", 3, 306),
        ("a" * 152 + "]" * 77, "gsm7", 3, 306),
        ("a" + "]" * 152, "gsm7", 2, 305),
        ("a" * 152 + "]" + "a" * 151, "gsm7", 2, 305),
        ("a" * 152 + "]" + "a" * 152, "gsm7", 3, 306),
        ("é" * 160, "gsm7", 1, 160),
        ("e\u0301", "ucs2", 1, 2),
        ("\r\n", "gsm7", 1, 2),
        ("\n", "gsm7", 1, 1),
        ("`", "ucs2", 1, 1),
        ("\x1b", "ucs2", 1, 1),
        ("ж" * 70, "ucs2", 1, 70),
        ("ж" * 71, "ucs2", 2, 71),
        ("ж" * 134, "ucs2", 2, 134),
        ("ж" * 135, "ucs2", 3, 135),
        ("😀" * 35, "ucs2", 1, 70),
        ("😀" * 36, "ucs2", 2, 72),
        ("😀" * 66, "ucs2", 2, 132),
        ("😀" * 67, "ucs2", 3, 134),
        ("\ud83d" * 70, "ucs2", 1, 70),
        ("ж" * 133 + "\ud83d", "ucs2", 2, 134),
    ],
)
def test_known_cases(body: str, encoding: str, count: int, units: int) -> None:
    segments = measure(body)
    assert (segments.encoding, segments.count, segments.units) == (encoding, count, units)


def test_the_alphabet_is_whole() -> None:
    assert len(set(BASIC)) == 127
    assert set(EXTENSION) == set("\f^{}\\[~]|€")
    assert not set(BASIC) & set(EXTENSION)


def test_the_characters_to_blame_come_once_and_in_order() -> None:
    assert measure("a`ж`😀ж").ucs2_characters == ("`", "ж", "😀")
    assert measure("plain [gsm]").ucs2_characters == ()


_mixed = st.text(alphabet=st.sampled_from("aé]€`ж😀\n\r"), max_size=700)
_gsm7 = st.text(alphabet=st.sampled_from("a]"), min_size=140, max_size=700)
_ucs2 = st.text(alphabet=st.sampled_from("ж😀"), min_size=60, max_size=350)


@given(st.one_of(st.text(max_size=400), _mixed, _gsm7, _ucs2))
def test_agrees_with_the_reference(body: str) -> None:
    segments = measure(body)
    assert (segments.encoding, segments.count, segments.units) == reference(body)
    assert bool(segments.ucs2_characters) == (segments.encoding == "ucs2")
