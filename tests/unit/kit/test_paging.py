"""Page sizes and page tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit.errors import InvalidRequestError
from services.kit.ids import new_id
from services.kit.paging import decode_token, encode_token, page_size, read_id, read_number

_json = st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.text())


@pytest.mark.parametrize(("asked", "given_"), [(0, 50), (1, 1), (200, 200), (201, 200), (2**31 - 1, 200)])
def test_page_sizes_stay_in_bounds(asked: int, given_: int) -> None:
    assert page_size(asked) == given_


def test_a_negative_page_size_is_refused() -> None:
    with pytest.raises(InvalidRequestError) as refused:
        page_size(-1)
    assert refused.value.violations[0].field == "page_size"


@given(st.lists(_json, max_size=3), st.lists(_json, max_size=3))
def test_tokens_bring_the_position_back(filter_key: list[object], position: list[object]) -> None:
    assert decode_token(encode_token(filter_key, position), filter_key) == position


def test_no_token_is_the_first_page() -> None:
    assert decode_token("", ["any"]) is None


def refused(token: str, filter_key: list[object]) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        decode_token(token, filter_key)
    assert caught.value.reason == "INVALID_PAGE_TOKEN"
    assert [violation.field for violation in caught.value.violations] == ["page_token"]
    return caught.value.message


def test_a_token_of_another_filter_is_refused() -> None:
    assert "another filter" in refused(encode_token(["sms"], [1]), ["email"])


@pytest.mark.parametrize("token", ["%%%", "a", "bnVsbA", "W10", "e30", "NQ", "é", "eyJhIjoxfQ"])
def test_what_is_no_token_is_refused(token: str) -> None:
    refused(token, ["sms"])


@given(st.text(min_size=1))
def test_no_text_is_taken_for_a_token_or_breaks_it(token: str) -> None:
    refused(token, ["sms"])


def test_tokens_bring_an_id_or_a_number_back() -> None:
    row_id = new_id()
    assert read_id(encode_token(["sms"], [row_id]), ["sms"]) == row_id
    assert read_number(encode_token(["sms"], [17]), ["sms"]) == 17
    assert read_id("", ["sms"]) is None
    assert read_number("", ["sms"]) == 0


@pytest.mark.parametrize(
    "position", [[], [None], ["7"], [new_id(), 1], [[]], [-1], [2**31], [True], [1.5], [1, 2], ["x" * 1000]]
)
def test_a_token_that_was_made_up_is_refused(position: list[object]) -> None:
    token = encode_token(["sms"], position)
    for read in (read_id, read_number):
        with pytest.raises(InvalidRequestError) as caught:
            read(token, ["sms"])
        assert caught.value.reason == "INVALID_PAGE_TOKEN"
