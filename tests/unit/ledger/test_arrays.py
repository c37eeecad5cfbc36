"""Array literals, read back by an independent parser of PostgreSQL's text format."""

from hypothesis import given
from hypothesis import strategies as st

from services.ledger.arrays import (
    bytes_array,
    bytes_column,
    plain_array,
    plain_column,
    storable,
    text_array,
    text_column,
)

_texts = st.lists(st.none() | st.text() | st.text(alphabet='"\\,{} NUL'))


def _parse(literal: str) -> list[str | None]:
    """Read a one-dimensional array as PostgreSQL documents it."""
    assert literal[0] + literal[-1] == "{}"
    items: list[str | None] = []
    rest = literal[1:-1]
    while rest:
        if rest[0] != '"':
            word, _, rest = rest.partition(",")
            items.append(None if word == "NULL" else word)
            continue
        text, at = "", 1
        while rest[at] != '"':
            at += rest[at] == "\\"
            text += rest[at]
            at += 1
        items.append(text)
        assert rest[at + 1 : at + 2] in ("", ",")
        rest = rest[at + 2 :]
    return items


@given(_texts)
def test_texts_come_back_as_they_were(texts: list[str | None]) -> None:
    assert _parse(text_array(texts)) == texts


@given(st.lists(st.none() | st.binary()))
def test_bytes_come_back_as_they_were(values: list[bytes | None]) -> None:
    found = [
        None if text is None else bytes.fromhex(text.removeprefix("\\x"))
        for text in _parse(bytes_array(values))
    ]
    assert found == values


def test_plain_values_need_no_quotes() -> None:
    assert plain_array(["a", None, 1, 0.5]) == "{a,NULL,1,0.5}"
    assert plain_array([]) == text_array([]) == bytes_array([]) == "{}"


def test_a_column_of_nothing_is_left_to_unnest_to_fill() -> None:
    assert plain_column([None, None]) == text_column([None]) == bytes_column([]) == "{}"
    assert plain_column([None, False]) == plain_array([None, False])
    assert text_column([None, ""]) == text_array([None, ""])
    assert bytes_column([None, b""]) == bytes_array([None, b""])


@given(st.none() | st.text(st.characters()) | st.text(alphabet="a\0\ud800é"))
def test_what_is_storable_has_a_form_in_utf8_and_no_nul(text: str | None) -> None:
    made = storable(text)
    if text is None:
        assert made is None
        return
    assert made is not None
    assert "\0" not in made
    assert made.encode().decode() == made
    assert made == text or "\0" in text or any("\ud800" <= character <= "\udfff" for character in text)
