"""Addresses in the forms people write them, and the ones that must be refused."""

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ledger.addresses import InvalidAddressError, normalise

NO_COUNTRY = "without its country code"
NEITHER = "neither a phone number with country code nor an e-mail address"
BAD_EMAIL = "not a valid e-mail address"
DIGITS = "too few or too many digits"


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("+15551234567", "+15551234567"),
        ("+15559876543", "+15559876543"),
        ("+1 555 123 4567", "+15551234567"),
        ("+1 (555) 123-4567", "+15551234567"),
        ("+1.555.123.4567", "+15551234567"),
        ("+1\u00a0555\u2011123\u20114567", "+15551234567"),
        ("0015551234567", "+15551234567"),
        ("00 1 555 123 4567", "+15551234567"),
        ("tel:+1-555-123-4567", "+15551234567"),
        ("TEL:+15551234567", "+15551234567"),
        ("  +15551234567 ", "+15551234567"),
        ("+44 20 7946 0958", "+442079460958"),
        ("+44 (0)20 7946 0958", "+442079460958"),
        ("(+44) 20 7946 0958", "+442079460958"),
        ("+39 06 1234 5678", "+390612345678"),
        ("+55 11 91234-5678", "+5511912345678"),
        ("+4400610130527", "+44610130527"),
    ],
)
def test_phone_numbers_become_e164(text: str, canonical: str) -> None:
    address = normalise(text)
    assert (address.kind, address.canonical, address.original) == ("phone", canonical, text)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("ann@example.com", "ann@example.com"),
        ("Ann.Lee+news@Example.COM", "Ann.Lee+news@example.com"),
        ("Ann <ann@example.com>", "ann@example.com"),
        ("<ann@example.com>", "ann@example.com"),
        ('"Lee, Ann @ home" <ann@example.com>', "ann@example.com"),
        ("ann@bücher.de", "ann@xn--bcher-kva.de"),
        ("ann@xn--bcher-kva.de", "ann@xn--bcher-kva.de"),
        ("jörg@example.com", "jörg@example.com"),
        ("ann@stack.test", "ann@stack.test"),
    ],
)
def test_email_keeps_its_local_part_and_lowers_its_domain(text: str, canonical: str) -> None:
    address = normalise(text)
    assert (address.kind, address.canonical, address.original) == ("email", canonical, text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        (" \u00a0 ", "empty"),
        ("+1555123" + "4" * 320, "320 characters"),
        ("+1555\x001234567", "control characters"),
        ("ann@example.com\n", "control characters"),
        ("ann\x85@example.com", "control characters"),
        ("Ann \ud800 <ann@example.com>", "control characters"),
        ("hello", NEITHER),
        ("+", NEITHER),
        ("++15551234567", NEITHER),
        ("whatsapp:+15551234567", NEITHER),
        ("call +1 555 123 4567", NEITHER),
        ("+1 555 123 4567 ext 5", "with an extension"),
        ("+15551234567;ext=5", "with an extension"),
        ("(555) 123-4567x12", "with an extension"),
        ("+15551234567,+15559876543", NEITHER),
        ("+1800FLOWERS", NEITHER),
        ("5551234567", NO_COUNTRY),
        ("(555) 123-4567", NO_COUNTRY),
        ("15551234567", NO_COUNTRY),
        ("12345", NO_COUNTRY),
        ("+999123456789", "unknown country code"),
        ("+1555123456", DIGITS),
        ("+155512345678", DIGITS),
        ("+15551234", DIGITS),
        ("ann@", BAD_EMAIL),
        ("@example.com", BAD_EMAIL),
        ("ann@example", BAD_EMAIL),
        ("ann@localhost", BAD_EMAIL),
        ("ann@[127.0.0.1]", BAD_EMAIL),
        ("ann@xn--a.com", BAD_EMAIL),
        ("a b@example.com", BAD_EMAIL),
        ("ann@example.com, bob@example.com", BAD_EMAIL),
        ("ann@example.com, Bob <bob@example.com>", BAD_EMAIL),
        ("Ann <ann@example.com>, Bob <bob@example.com>", BAD_EMAIL),
        ("Ann <ann@example.com> Lee", BAD_EMAIL),
    ],
)
def test_what_is_no_address_is_refused_with_a_reason(text: str, why: str) -> None:
    with pytest.raises(InvalidAddressError, match=why) as refused:
        normalise(text)
    assert len(text) < 5 or text not in str(refused.value)


def test_the_longest_text_is_inclusive() -> None:
    assert normalise("+15551234567".ljust(320)).canonical == "+15551234567"
    with pytest.raises(InvalidAddressError, match="320 characters"):
        normalise("+15551234567".ljust(321))


def test_the_librarys_reason_is_told_unless_it_quotes_the_address() -> None:
    with pytest.raises(InvalidAddressError, match=f"^is {BAD_EMAIL}: .*should have a period"):
        normalise("ann@example")
    with pytest.raises(InvalidAddressError, match=f"^is {BAD_EMAIL}$"):
        normalise("ann@xn--a.com")


def test_strict_wants_an_assigned_number() -> None:
    assert normalise("+12025550123", strict=True).canonical == "+12025550123"
    assert normalise("+442079460958", strict=True).canonical == "+442079460958"
    with pytest.raises(InvalidAddressError, match="not assigned"):
        normalise("+15551234567", strict=True)


def test_a_national_number_needs_a_region() -> None:
    assert normalise("(555) 123-4567", default_region="US").canonical == "+15551234567"
    assert normalise("1 555 123 4567", default_region="US").canonical == "+15551234567"
    assert normalise("020 7946 0958", default_region="GB").canonical == "+442079460958"
    assert normalise("+1 555 123 4567", default_region="GB").canonical == "+15551234567"
    with pytest.raises(InvalidAddressError, match=DIGITS):
        normalise("123-4567", default_region="US")


def test_sender_ids_are_addresses_only_where_allowed() -> None:
    assert normalise("12345", allow_short_code=True).canonical == "12345"
    assert normalise("12345", allow_short_code=True).kind == "phone"
    named = normalise("Posthouse", allow_alphanumeric=True)
    assert (named.kind, named.canonical) == ("alphanumeric", "Posthouse")
    for text in ("12", "123456789"):
        with pytest.raises(InvalidAddressError, match=NO_COUNTRY):
            normalise(text, allow_short_code=True)
    for text in ("TwelveLetter", "Pöst", "Post\\house"):
        with pytest.raises(InvalidAddressError, match=f"{NEITHER} nor a sender id"):
            normalise(text, allow_alphanumeric=True)


@given(st.from_regex(r"\+1[2-9][0-9]{9}", fullmatch=True))
def test_the_north_american_short_cut_agrees_with_the_library(number: str) -> None:
    parsed = phonenumbers.parse(number)
    assert phonenumbers.is_possible_number(parsed)
    assert normalise(number).canonical == phonenumbers.format_number(
        parsed, phonenumbers.PhoneNumberFormat.E164
    )


_pieces = st.sampled_from(
    ["+", "00", "1", "44", "555", "1234567", " ", "-", "(", ")", "@", "a", "b.com", "<", ">", "\0"]
)


@given(st.one_of(st.text(max_size=40), st.lists(_pieces, max_size=8).map("".join)))
def test_no_text_is_unexpected(text: str) -> None:
    try:
        address = normalise(text, allow_short_code=True, allow_alphanumeric=True)
    except InvalidAddressError as error:
        assert str(error)  # noqa: PT017 either outcome is right; each has its own promise
    else:
        again = normalise(address.canonical, allow_short_code=True, allow_alphanumeric=True)
        assert (again.kind, again.canonical) == (address.kind, address.canonical)
        assert address.original == text
        assert "\0" not in text
