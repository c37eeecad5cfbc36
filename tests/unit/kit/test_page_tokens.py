"""Page tokens."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.conversation.filters import ConversationFilter
from services.kit.errors import InvalidRequestError
from services.kit.page_tokens import Position, read_token, write_token
from services.kit.paging import encode_token

_KEY = ConversationFilter(participant="+15551234567", since_time=datetime(2026, 1, 1, tzinfo=UTC)).key


@given(st.datetimes(timezones=st.just(UTC)), st.uuids())
def test_position_comes_back_to_the_microsecond(time: datetime, row_id: object) -> None:
    position = Position(time, str(row_id))
    assert read_token(write_token(_KEY, position), _KEY) == position


def test_no_token_is_the_first_page() -> None:
    assert read_token("", _KEY) is None


@given(st.lists(st.none() | st.floats(allow_nan=False) | st.text(), max_size=3))
def test_what_is_no_position_is_refused(values: list[object]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        read_token(encode_token(_KEY, values), _KEY)
    assert caught.value.reason == "INVALID_PAGE_TOKEN"


@given(st.text())
def test_any_text_is_refused(text: str) -> None:
    if not text:
        return
    with pytest.raises(InvalidRequestError) as caught:
        read_token(text, _KEY)
    assert caught.value.reason == "INVALID_PAGE_TOKEN"
