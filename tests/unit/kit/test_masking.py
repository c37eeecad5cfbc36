"""Nothing that identifies a person is left to read in a log line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit.masking import mask_address, mask_text, mask_value


@pytest.mark.parametrize(
    ("address", "masked"),
    [
        ("+15559876543", "+1*****6543"),
        ("ann.lee@example.com", "a***@example.com"),
        ("12345", "*****"),
        ("", "*****"),
        ("@example.com", "***@example.com"),
    ],
)
def test_addresses(address: str, masked: str) -> None:
    assert mask_address(address) == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("sent to +15559876543.", "sent to +1*****6543."),
        ("from ann.lee+x@mail.example.com to +1 (555) 987-6543", "from a***@mail.example.com to +1*****6543"),
        ("postgresql://ann:hush@db/posthouse", "postgresql://ann:***@db/posthouse"),
        ("redis://:hush@cache:6379", "redis://:***@cache:6379"),
        ("018f4e2a-1234-7abc-8def-0123456789ab stays", "018f4e2a-1234-7abc-8def-0123456789ab stays"),
        ("took 1200 ms", "took 1200 ms"),
    ],
)
def test_free_text(text: str, masked: str) -> None:
    assert mask_text(text) == masked


def test_passwords_of_urls_with_any_host() -> None:
    assert "hush" not in mask_text("postgresql://ann:hush@db.example.com:5432/posthouse")


def test_secrets_by_name_at_any_depth() -> None:
    line = {"Body": "hi", "inner": [{"token": 7, "note": "call +15559876543"}], "count": 3}
    assert mask_value("event", line) == {
        "Body": "***",
        "inner": [{"token": "***", "note": "call +1*****6543"}],
        "count": 3,
    }
    assert mask_value("text", ["+15559876543"]) == "***"


@given(st.from_regex(r"\+[1-9][0-9]{9,14}", fullmatch=True), st.sampled_from(["", "to ", "tel:", "(", '"']))
def test_no_e164_number_survives(number: str, before: str) -> None:
    assert number not in mask_text(f"{before}{number} failed")


@given(st.from_regex(r"[a-z]{2,10}@[a-z]{2,8}\.com", fullmatch=True))
def test_no_local_part_survives(address: str) -> None:
    assert address not in mask_text(f"to <{address}>")


@pytest.mark.parametrize("text", ["a" * 40_000, "a." * 20_000, "+-" * 20_000, "a://" * 10_000])
def test_a_long_text_without_an_address_is_read_in_time(text: str) -> None:
    # Where time went with the square of the length, this took minutes.
    assert mask_text(text) == text
