"""Reads addresses in requests; every refusal names the field."""

import contextlib
import re
from collections.abc import Sequence

from services.kit.errors import InvalidRequestError
from services.ledger.addresses import Address, InvalidAddressError, normalise

# So many digits have their country code among them; most national numbers are shorter.
_INTERNATIONAL_LENGTH = 11
_NOT_DIGIT = re.compile("[^0-9]")

# A conversation has two participants.
_PAIR = 2


def read_participant(field: str, text: str, *, region: str | None = None) -> Address:
    """Return an address written in any form, normalised as intake does it.

    All that intake may ever have stored passes, whatever the settings say now: unassigned numbers, short
    codes, alphanumeric senders. A number may lack its plus, as it does in many a URL and database, and its
    country code where `region`, an ISO 3166 code, says which.
    """
    try:
        return _normalise(text)
    except InvalidAddressError as error:
        plusless = len(_NOT_DIGIT.sub("", text)) >= _INTERNATIONAL_LENGTH and "+" not in text
        if plusless and "@" not in text:
            with contextlib.suppress(InvalidAddressError):
                return _normalise(f"+{text.strip()}")
        if region is not None:
            with contextlib.suppress(InvalidAddressError):
                return _normalise(text, region)
        raise InvalidRequestError.field(field, str(error)) from None


def read_participant_filter(field: str, text: str, *, region: str) -> str:
    """Return the canonical form of an address to narrow by, "" when none is given."""
    return read_participant(field, text, region=region).canonical if text else ""


def read_participants(field: str, texts: Sequence[str], *, region: str | None = None) -> list[Address]:
    """Return one or two addresses."""
    if not 1 <= len(texts) <= _PAIR:
        raise InvalidRequestError.field(field, "must be one address or two")
    return [
        read_participant(f"{field}[{position}]", text, region=region) for position, text in enumerate(texts)
    ]


def _normalise(text: str, region: str | None = None) -> Address:
    return normalise(text, default_region=region, allow_short_code=True, allow_alphanumeric=True)
