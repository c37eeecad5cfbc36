"""Counts the segments an SMS takes: GSM 03.38 septets, or UTF-16 code units where that cannot say it."""

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, TypeVar

# 3GPP TS 23.038, 6.2.1: the default alphabet, without its escape, and the extension table.
BASIC: Final = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENSION: Final = "\f^{}\\[~]|€"

_ESCAPE = "\x1b"
_BASIC_ONLY = re.compile(f"[{re.escape(BASIC)}]*")
_GSM7 = frozenset(BASIC + EXTENSION)
_ESCAPED = {ord(character): _ESCAPE + character for character in EXTENSION}

# Units that fit alone, and beside the header that says which part of how many it is.
_GSM7_ALONE, _GSM7_PART = 160, 153
_UCS2_ALONE, _UCS2_PART = 70, 67

# In the machine's own byte order, since a memoryview knows no other.
_UTF16 = "utf-16-le" if sys.byteorder == "little" else "utf-16-be"
_HIGH_SURROGATE, _SURROGATE_MASK = 0xD800, 0xFC00

_Unit = TypeVar("_Unit", int, str)


@dataclass(frozen=True, slots=True)
class Segments:
    """What a body takes: segments, units (septets or UTF-16 code units) and who is to blame for UCS-2."""

    encoding: Literal["gsm7", "ucs2"]
    count: int
    units: int
    # The distinct characters that GSM-7 lacks, in order of appearance.
    ucs2_characters: tuple[str, ...] = ()


def measure(body: str) -> Segments:
    """Return the segments a body takes; an empty one takes none.

    Extension characters and characters beyond U+FFFF take two units that are never split.
    """
    if _BASIC_ONLY.fullmatch(body):
        return _measure_basic(len(body))
    foreign = tuple(character for character in dict.fromkeys(body) if character not in _GSM7)
    if foreign:
        # "surrogatepass": lone surrogates count as what they are, one unit.
        code_units = memoryview(body.encode(_UTF16, "surrogatepass")).cast("H")
        count = _parts(code_units, _UCS2_ALONE, _UCS2_PART, _is_high_surrogate)
        return Segments("ucs2", count, len(code_units), foreign)
    septets = body.translate(_ESCAPED)
    return Segments("gsm7", _parts(septets, _GSM7_ALONE, _GSM7_PART, _ESCAPE.__eq__), len(septets))


@lru_cache(maxsize=2048)
def _measure_basic(length: int) -> Segments:
    return Segments("gsm7", -(-length // _GSM7_PART) if length > _GSM7_ALONE else min(length, 1), length)


def _parts(units: Sequence[_Unit], alone: int, part: int, opens_pair: Callable[[_Unit], bool]) -> int:
    if len(units) <= alone:
        return 1
    count = position = 0
    while position < len(units):
        position += part
        count += 1
        if position < len(units) and opens_pair(units[position - 1]):
            position -= 1
    return count


def _is_high_surrogate(unit: int) -> bool:
    return unit & _SURROGATE_MASK == _HIGH_SURROGATE
