"""Queries that hold telephone numbers, as people write them."""

import pytest

from services.conversation.search_query import read_query


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("+1 (555) 123-4567", [("1 555 123 4567", "15551234567")]),
        ("0044 20 7946 0018", [("0044 20 7946 0018", "442079460018")]),
        ("555-1234", [("555 1234", "")]),
        # Two numbers are two, with or without a plus.
        ("+15551234567 +15559876543", [("15551234567", "15551234567"), ("15559876543", "15559876543")]),
        ("5551234567 5559876543", [("5551234567", "5551234567"), ("5559876543", "5559876543")]),
        (
            "(555) 123-4567 (555) 987-6543 late",
            [("555 123 4567", "5551234567"), ("555 987 6543", "5559876543"), ("late", "")],
        ),
        # No number at all.
        ("12345678901234567890", [("12345678901234567890", "")]),
        ("10 20 30", [("10", ""), ("20", ""), ("30", "")]),
    ],
)
def test_each_number_is_a_term(query: str, expected: list[tuple[str, str]]) -> None:
    terms = read_query("query", query)
    assert [(" ".join(term.words), term.digits) for term in terms] == expected
