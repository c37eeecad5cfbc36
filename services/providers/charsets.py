"""Decodes the bytes of e-mail by the charset somebody declared for them, true or not."""

import codecs
import re
from typing import Final

# Codecs of texts, by Python's names. The others are not charsets (base64), or expand or crawl (idna).
_CHARSETS: Final = re.compile(
    r"utf-8|utf-16(-[lb]e)?|utf-32(-[lb]e)?|utf-7|ascii|iso8859-\d+|cp\d+|koi8-[rtu]|mac-\w+|gb\w+|hz"
    r"|big5(hkscs)?|euc_\w+|shift_jis\w*|iso2022_\w+|johab|ptcp154|tis-620"
)
_MAX_NAME_LENGTH: Final = 40

# What senders call ISO-8859-1 has the quotation marks of windows-1252, as in every browser; and what they
# call ASCII and is not is mostly UTF-8.
_MEANT: Final = {"iso8859-1": "cp1252", "ascii": "utf-8"}


def decode(data: bytes, declared: str = "") -> str:
    """Return the text of bytes: in the declared charset where it can be, else in UTF-8 or windows-1252.

    Never raises; what no charset explains becomes U+FFFD.
    """
    for codec in dict.fromkeys([_codec(declared), "utf-8"]):
        try:
            return data.decode(codec)
        except UnicodeError:
            continue
    return data.decode("cp1252", errors="replace")


def _codec(declared: str) -> str:
    """Return Python's name of a charset, UTF-8 for what is none."""
    if not 0 < len(declared) <= _MAX_NAME_LENGTH:
        return "utf-8"
    try:
        name = codecs.lookup(declared.strip()).name
    except (LookupError, UnicodeError, ValueError):
        return "utf-8"
    return _MEANT.get(name, name) if _CHARSETS.fullmatch(name) else "utf-8"
