"""Turns addresses as people write them into the one form they are stored and compared in."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import phonenumbers
from email_validator import EmailNotValidError, validate_email
from phonenumbers import NumberParseException, PhoneNumberFormat, ValidationResult

AddressKind = Literal["phone", "email", "alphanumeric"]

MAX_ADDRESS_LENGTH: Final = 320

# Control characters, NUL among them, and lone surrogates, which have no UTF-8 form.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# Digits and what people put between them. Letters are refused: the library makes numbers of them.
_PHONE = re.compile("\\(?\\+?[0-9(][0-9 ()./\u00a0\u2010-\u2015-]*")
# Nothing is left to normalise here, and the library takes 20 µs to say so.
_CANONICAL_NORTH_AMERICAN = re.compile(r"\+1[2-9][0-9]{9}")
# As in +1 555 987 6543 ext. 12 or tel:+15559876543;ext=12.
_EXTENSION = re.compile(r"[0-9 ()./-]{7,}[;,]? ?(?:x|ext\.?|extension|#)[ =:]?[0-9]{1,7}", re.IGNORECASE)
_SHORT_CODE = re.compile(r"[0-9]{3,8}")
_ALPHANUMERIC = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9 &_+-]{1,11}")
# "Ann Lee <ann@example.com>"; an unquoted name with @ or < in it would be a list of addresses.
_NAMED_EMAIL = re.compile(r'(?:"(?:[^"\\]|\\.)*"\s*|[^"<>@]*)<([^<>]*)>')


class InvalidAddressError(ValueError):
    """The text is no address; its message says why, for people, and does not repeat the address."""


@dataclass(frozen=True, slots=True)
class Address:
    """An address in its canonical form and as it was written.

    The canonical form is E.164 for phones, the bare digits for short codes, the bare address with its
    domain in lower-case ASCII for e-mail, and the trimmed text for alphanumeric sender ids.
    """

    kind: AddressKind
    canonical: str
    original: str


def normalise(
    text: str,
    *,
    strict: bool = False,
    default_region: str | None = None,
    allow_short_code: bool = False,
    allow_alphanumeric: bool = False,
) -> Address:
    """Return the address in a text, or raise InvalidAddressError.

    Phone numbers need their country code (+1 ..., 001 ..., tel:+1...) unless `default_region`, an ISO
    3166 code such as "US", says where national ones belong; `strict` refuses numbers that are possible
    but not assigned to any range. Short codes (3 to 8 digits) and alphanumeric sender ids (up to 11
    characters with a letter) are addresses only where they are allowed: a short code is then never
    taken for a national number.
    """
    return _normalise(text, strict, default_region, allow_short_code, allow_alphanumeric)


@lru_cache(maxsize=100_000)
def _normalise(
    text: str, strict: bool, default_region: str | None, allow_short_code: bool, allow_alphanumeric: bool
) -> Address:
    trimmed = text.strip(" \u00a0")
    if not trimmed:
        raise InvalidAddressError("must not be empty")
    if len(text) > MAX_ADDRESS_LENGTH:
        raise InvalidAddressError(f"must not be longer than {MAX_ADDRESS_LENGTH} characters")
    if _FORBIDDEN.search(text):
        raise InvalidAddressError("must not contain control characters")
    if "@" in trimmed:
        return Address("email", _canonical_email(trimmed), text)
    if allow_short_code and _SHORT_CODE.fullmatch(trimmed):
        return Address("phone", trimmed, text)
    number = trimmed[4:].lstrip() if trimmed[:4].lower() == "tel:" else trimmed
    if _PHONE.fullmatch(number):
        return Address("phone", _canonical_phone(number, strict, default_region), text)
    if allow_alphanumeric and _ALPHANUMERIC.fullmatch(trimmed):
        return Address("alphanumeric", trimmed, text)
    if _EXTENSION.search(number):
        raise InvalidAddressError("is a phone number with an extension, which messages do not reach")
    if allow_alphanumeric:
        raise InvalidAddressError(
            "is neither a phone number with country code nor an e-mail address nor a sender id "
            "(up to 11 Latin letters, digits and spaces)"
        )
    raise InvalidAddressError("is neither a phone number with country code nor an e-mail address")


def _canonical_phone(text: str, strict: bool, default_region: str | None) -> str:
    if not strict and _CANONICAL_NORTH_AMERICAN.fullmatch(text):
        return text
    if text.startswith("00"):
        text = f"+{text[2:].lstrip()}"
    try:
        number = phonenumbers.parse(text, default_region)
    except NumberParseException as error:
        if "+" not in text and default_region is None:
            raise InvalidAddressError("is a phone number without its country code, e.g. +1") from None
        if error.error_type == NumberParseException.INVALID_COUNTRY_CODE:
            raise InvalidAddressError("is a phone number with an unknown country code") from None
        raise InvalidAddressError("is not a phone number") from None
    # "Possible" to the library includes numbers that reach nobody from outside their own area.
    if phonenumbers.is_possible_number_with_reason(number) != ValidationResult.IS_POSSIBLE:
        raise InvalidAddressError("is a phone number with too few or too many digits")
    if strict and not phonenumbers.is_valid_number(number):
        raise InvalidAddressError("is a phone number that is not assigned in its country")
    canonical = phonenumbers.format_number(number, PhoneNumberFormat.E164)
    # Of zeros too many the library takes one at a time; a canonical form is that of itself.
    return canonical if canonical == text else _canonical_phone(canonical, strict, default_region)


def _canonical_email(text: str) -> str:
    named = _NAMED_EMAIL.fullmatch(text)
    try:
        # Domains of test environments end in .test; whether a domain exists is for the provider to say.
        found = validate_email(named[1] if named else text, check_deliverability=False, test_environment=True)
    except EmailNotValidError as error:
        # Some of the library's texts quote the part they are about.
        why = "" if {"'", '"'} & set(str(error)) else f": {error}"
        raise InvalidAddressError(f"is not a valid e-mail address{why}") from None
    return f"{found.local_part}@{found.ascii_domain}"
