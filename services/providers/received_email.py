"""Reads the MIME message that a contact's mail program made, whatever state it is in.

It is taken apart with the standard library's older rules: the newer ones (email.policy.default) parse every
header by RFC 5322's grammar when it is looked at, and raise or crawl on what strangers write there. What
would keep even the older ones busy for minutes, endless headers and parts within parts, is not looked into.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email import message_from_bytes
from email._policybase import Compat32
from email.errors import MessageError
from email.header import decode_header
from email.message import Message
from email.utils import collapse_rfc2231_value
from typing import Final, TypeAlias

from services.providers.charsets import decode

# Generic only to type checkers.
_Part: TypeAlias = "Message[str, str]"

_MAX_HEADER: Final = 16_384
_MAX_HEADER_BLOCK: Final = 1 << 18
# Of a part's own headers; their parameters take the square of their length to read.
_MAX_PART_HEADER: Final = 2048
_MAX_LINES: Final = 250_000
_MAX_PARTS: Final = 1000
_MAX_NESTED: Final = 50
# Every line is held against the boundary of every part that is open.
_MAX_WORK: Final = 600_000

_STRUCTURE: Final = re.compile(rb"(?:multipart|message)/", re.IGNORECASE)
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_FOLD: Final = re.compile(r"\r?\n[ \t]+|[\r\n]+")
_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f]")
_ENCODED_WORD: Final = "=?"


class _ShortHeaders(Compat32):
    """The older rules, with a bound on the length of a header."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        """Return the name and the value of a header."""
        name, value = super().header_source_parse(sourcelines)
        return name, value[:_MAX_PART_HEADER]


_RULES: Final = _ShortHeaders()


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """An attachment as it came."""

    filename: str
    content_type: str
    content_id: str
    content: bytes = field(repr=False)


@dataclass(slots=True)
class ReceivedEmail:
    """What a message says. `text` and `html` are empty where it has none."""

    text: str = field(default="", repr=False)
    html: str = field(default="", repr=False)
    files: list[ReceivedFile] = field(default_factory=list)


def read_email(raw: bytes) -> ReceivedEmail:
    """Return the first text, the first HTML and all else as files; never raises.

    HTML stays as its sender wrote it: only the transfer encoding and the charset are undone. A message too
    intricate to take apart is one text, as it came.
    """
    email = ReceivedEmail()
    if _too_intricate(raw):
        email.text = decode(raw)
        return email
    for part in _leaves(message_from_bytes(raw, policy=_RULES)):
        _add(email, part)
    return email


def read_headers(data: bytes) -> Mapping[str, str]:
    """Return the headers a message or a block begins with, unfolded but not decoded, by lower-case name.

    Of several with one name the first counts: it was added last, by the servers nearest to us.
    """
    headers: dict[str, str] = {}
    lines: list[bytes] = []
    for line in [*_LINE_END.split(data[:_MAX_HEADER_BLOCK].lstrip(b"\r\n")), b""]:
        if line.startswith((b" ", b"\t")):
            lines.append(line)
            continue
        name, colon, value = b"\n".join(lines)[:_MAX_HEADER].partition(b":")
        if colon:
            headers.setdefault(decode(name).strip().lower(), unfolded(decode(value)))
        if not line:
            break
        lines = [line]
    return headers


def unfolded(value: str) -> str:
    """Return a header's value in one line without control characters."""
    return _CONTROLS.sub("", _FOLD.sub(" ", value[:_MAX_HEADER])).strip()


def decode_words(value: str) -> str:
    """Return a header's value with its encoded words (RFC 2047) decoded; never raises."""
    if _ENCODED_WORD not in value:
        return value
    try:
        chunks = decode_header(value[:_MAX_HEADER])
    except (MessageError, ValueError):
        return value
    texts = [decode(chunk, charset or "") if isinstance(chunk, bytes) else chunk for chunk, charset in chunks]
    return unfolded("".join(texts))


def _too_intricate(raw: bytes) -> bool:
    """Tell whether a message would take more than about a second to take apart."""
    lines = raw.count(b"\n") + raw.count(b"\r")
    open_parts = len(_STRUCTURE.findall(raw))
    return (
        lines > _MAX_LINES
        or raw.count(b"\n--") > _MAX_PARTS
        or open_parts > _MAX_NESTED
        or lines * (1 + open_parts) > _MAX_WORK
    )


def _leaves(message: _Part) -> Iterator[_Part]:
    """Yield the parts that have no parts, in their order; a forwarded message is one, whole."""
    waiting = [message]
    while waiting:
        part = waiting.pop()
        if part.is_multipart() and part.get_content_maintype() == "multipart":
            waiting.extend(reversed(_inner(part)))
        else:
            yield part


def _add(email: ReceivedEmail, part: _Part) -> None:
    kind = part.get_content_type()
    named = _filename(part)
    attached = bool(named) or (part.get_content_disposition() or "") == "attachment"
    if kind == "text/plain" and not attached and not email.text:
        email.text = _text(part)
    elif kind == "text/html" and not attached and not email.html:
        email.html = _text(part)
    elif content := _content(part):
        content_id = unfolded(str(part.get("Content-ID", ""))).strip("<>")
        email.files.append(ReceivedFile(named, kind, content_id, content))


def _text(part: _Part) -> str:
    return decode(_content(part), _parameter(part.get_param("charset", "")))


def _content(part: _Part) -> bytes:
    if part.is_multipart():  # a forwarded message
        try:
            return b"\r\n".join(inner.as_bytes() for inner in _inner(part))
        except (MessageError, ValueError, LookupError, RecursionError):
            return b""
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else b""


def _inner(part: _Part) -> list[_Part]:
    """Return the parts of a part that has some.

    Of one that has none get_payload would decode the text by whatever it calls its charset, and raise.
    """
    return [inner for inner in part.get_payload() if isinstance(inner, Message)]


def _filename(part: _Part) -> str:
    found = part.get_param("filename", None, "content-disposition") or part.get_param("name", None)
    return decode_words(unfolded(_parameter(found)))


def _parameter(value: object) -> str:
    """Return a header parameter, in plain or in the form of RFC 2231."""
    try:
        return collapse_rfc2231_value(value)  # type: ignore[arg-type]  # what get_param returns
    except (LookupError, ValueError, TypeError):
        return ""
