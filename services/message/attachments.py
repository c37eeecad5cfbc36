"""Checks attachments: media by address or by content, never fetched here."""

import base64
import re
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from posthouse.v1.message_pb2 import Attachment
from services.kit.errors import Violation

MAX_ATTACHMENTS: Final = 10
MAX_ATTACHMENT_BYTES: Final = 10 << 20
MAX_URL_LENGTH: Final = 2048
MAX_NAME_LENGTH: Final = 255

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# What urlsplit would drop in silence, or read otherwise than a provider does.
_UNSAFE_IN_URL = re.compile(r"[\x00-\x20\x7f-\x9f\\]|\s")
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 the grammar's word, no secret
# RFC 9110, 8.3.1.
_MEDIA_TYPE = re.compile(rf'{_TOKEN}/{_TOKEN}(?:[ \t]*;[ \t]*{_TOKEN}=(?:{_TOKEN}|"[^"\\\x00-\x1f\x7f]*"))*')


def check_attachments(
    faults: list[Violation], channel: str, given: Sequence[Attachment]
) -> list[dict[str, Any]]:
    """Return attachments as they are stored, and add what is wrong with them to `faults`.

    Each is {"url" or "content" (base64), "content_type", "filename"}.
    """
    if len(given) > MAX_ATTACHMENTS:
        faults.append(Violation("attachments", f"must not be more than {MAX_ATTACHMENTS}"))
    if sum(len(attachment.content) for attachment in given) > MAX_ATTACHMENT_BYTES:
        faults.append(
            Violation("attachments", f"must not be larger than {MAX_ATTACHMENT_BYTES} bytes together")
        )
    for index, attachment in enumerate(given[:MAX_ATTACHMENTS]):
        _check_attachment(faults, f"attachments[{index}]", channel, attachment)
    # What is at fault is not stored: spare the work of encoding it.
    return [] if faults else [_stored(attachment) for attachment in given]


def _check_attachment(faults: list[Violation], field: str, channel: str, attachment: Attachment) -> None:
    if attachment.content:
        if attachment.url:
            faults.append(Violation(f"{field}.url", "must be empty when content is given"))
        if channel not in ("email", ""):
            faults.append(Violation(f"{field}.content", "is for e-mail only; give a url"))
    else:
        wrong = _wrong_with_url(attachment.url)
        if wrong:
            faults.append(Violation(f"{field}.url", wrong))
    kind = attachment.content_type
    if kind and (len(kind) > MAX_NAME_LENGTH or not _MEDIA_TYPE.fullmatch(kind)):
        faults.append(Violation(f"{field}.content_type", "must be a media type such as image/jpeg"))
    if len(attachment.filename) > MAX_NAME_LENGTH:
        faults.append(Violation(f"{field}.filename", f"must not be longer than {MAX_NAME_LENGTH} characters"))
    if _CONTROL.search(attachment.filename):
        faults.append(Violation(f"{field}.filename", "must not contain control characters"))


def _wrong_with_url(url: str) -> str | None:
    if not url:
        return "must not be empty without content"
    if len(url) > MAX_URL_LENGTH:
        return f"must not be longer than {MAX_URL_LENGTH} characters"
    if _UNSAFE_IN_URL.search(url):
        return "must not contain spaces, backslashes or control characters"
    return _wrong_with_origin(url)


def _wrong_with_origin(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises when it is no port
    except ValueError:
        return "is not a valid URL"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "must be an http or https URL with a host"
    return "must not contain credentials" if "@" in parts.netloc else None


def _stored(attachment: Attachment) -> dict[str, Any]:
    source = (
        {"content": base64.b64encode(attachment.content).decode()}
        if attachment.content
        else {"url": attachment.url}
    )
    return {**source, "content_type": attachment.content_type, "filename": attachment.filename}
