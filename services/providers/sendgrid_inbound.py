"""SendGrid's Inbound Parse: an e-mail from a contact, taken apart by SendGrid or raw.

Neither an Inbound Parse request nor its sender is signed unless a security policy is set up through
SendGrid's API, so what proves a request is a token that only SendGrid and we know: the address given to
SendGrid ends in `?token=`. It is compared in constant time, since a comparison that ends at the first
difference tells a patient caller how much of a guess was right.

Attachments are stored with their name, type and size; their content as well, in base64, as long as that of
all together stays within MAX_KEPT_BYTES. All of it is in webhook_logs for as long as these are kept.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import getaddresses, parsedate_to_datetime
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import orjson

from services.providers.base import Inbound, MalformedWebhookError, WebhookContent, WebhookRequest
from services.providers.charsets import decode
from services.providers.multipart_form import FormPart, parse_form
from services.providers.received_email import (
    ReceivedEmail,
    ReceivedFile,
    decode_words,
    read_email,
    read_headers,
    unfolded,
)

MAX_KEPT_BYTES: Final = 5 << 20
MAX_FILES: Final = 50
MAX_RECIPIENTS: Final = 50

_MAX_ADDRESS: Final = 320
_MAX_ADDRESSES: Final = 4096
_MAX_VALUE: Final = 500
_MAX_SUBJECT: Final = 998
_MAX_REFERENCES: Final = 4000
_NAMED: Final = re.compile(r"([^<>]*)<([^<>\s@]+@[^<>\s@]+)>")
_UNSAFE_IN_NAME: Final = re.compile(r'[<>@"\\,;:\x00-\x1f]')
# SendGrid tries for three days to hand an e-mail over; an older Date is a clock that is wrong.
_OLDEST: Final = timedelta(days=4)


def verify_token(token: str, request: WebhookRequest) -> bool:
    """Tell whether the request's URL carries the token; without one configured nothing is genuine."""
    try:
        given = parse_qs(urlsplit(request.url).query).get("token", [])
    except ValueError:
        return False
    if not token or len(given) != 1:
        return False
    digests = [hashlib.sha256(text.encode(errors="replace")).digest() for text in (token, given[0])]
    return hmac.compare_digest(*digests)


def parse_inbound(request: WebhookRequest) -> WebhookContent:
    """Return the e-mail of a request, once for each of our addresses it came to.

    Raises MalformedWebhookError when the body is no form, or says neither from whom nor to whom.
    """
    fields: dict[str, FormPart] = {}
    for part in parse_form(request):
        fields.setdefault(part.name, part)
    form = _Form(fields)
    raw = form.raw("email")
    email = read_email(raw) if raw else form.email()
    headers = read_headers(raw or form.raw("headers"))
    envelope_from, recipients = form.envelope()
    recipients = recipients or _addresses(headers.get("to", "")) or _addresses(unfolded(form.text("to")))
    sender = (
        _sender(headers.get("from", ""))
        or _sender(unfolded(form.text("from")))
        # Last: often an address made for bounces.
        or (envelope_from if "@" in envelope_from else "")
    )
    if not sender or not recipients:
        raise MalformedWebhookError("from, to and envelope name no sender or no recipient")
    message_id = headers.get("message-id", "")
    identity = _identity(message_id, envelope_from, recipients, form, email)
    attachments = _attachments(email.files)
    return WebhookContent(
        inbound=[
            Inbound(
                event_key=_digest([identity, recipient]),
                channel="email",
                sender=sender,
                recipient=recipient,
                body=email.text,
                subject=form.header("subject", headers)[:_MAX_SUBJECT],
                html=email.html,
                attachments=attachments,
                provider_message_id=message_id[:_MAX_VALUE],
                provider_time=_time(headers.get("date", "")),
                metadata=_metadata(message_id, headers, form),
            )
            for recipient in recipients[:MAX_RECIPIENTS]
        ]
    )


class _Form:
    """The fields of an Inbound Parse request, each in the charset that SendGrid says it has."""

    def __init__(self, fields: Mapping[str, FormPart]) -> None:
        self._fields = fields
        self._charsets = _object(self.raw("charsets"))

    def raw(self, name: str) -> bytes:
        """Return a field as it came, empty when there is none."""
        part = self._fields.get(name)
        return part.content if part else b""

    def text(self, name: str) -> str:
        """Return a field decoded."""
        charset = self._charsets.get(name)
        return decode(self.raw(name), charset if isinstance(charset, str) else "")

    def header(self, name: str, headers: Mapping[str, str]) -> str:
        """Return a field that was a header, or that header, in one line with its encoded words decoded."""
        return decode_words(unfolded(self.text(name)) or headers.get(name, ""))

    def envelope(self) -> tuple[str, list[str]]:
        """Return the addresses of the SMTP dialogue: from, and to."""
        envelope = _object(self.raw("envelope"))
        sender, recipients = envelope.get("from"), envelope.get("to")
        return (
            sender.strip() if isinstance(sender, str) else "",
            [text.strip() for text in recipients if isinstance(text, str) and "@" in text]
            if isinstance(recipients, list)
            else [],
        )

    def email(self) -> ReceivedEmail:
        """Return the e-mail that SendGrid has taken apart."""
        info = _object(self.raw("attachment-info"))
        files = [
            _file(part, info.get(name))
            for name, part in self._fields.items()
            if name not in {"", "attachments", "attachment-info"} and (part.filename or name in info)
        ]
        return ReceivedEmail(text=self.text("text"), html=self.text("html"), files=files)


def _file(part: FormPart, info: object) -> ReceivedFile:
    told = info if isinstance(info, dict) else {}

    def tell(name: str) -> str:
        value = told.get(name)
        return unfolded(value) if isinstance(value, str) else ""

    return ReceivedFile(
        filename=tell("filename") or tell("name") or unfolded(part.filename),
        content_type=tell("type") or unfolded(part.content_type),
        content_id=tell("content-id").strip("<>"),
        content=part.content,
    )


def _attachments(files: Sequence[ReceivedFile]) -> list[dict[str, Any]]:
    kept = 0
    attachments = []
    for file in files[:MAX_FILES]:
        entry: dict[str, Any] = {
            "filename": file.filename[:_MAX_VALUE],
            "content_type": file.content_type[:_MAX_VALUE],
            "size": len(file.content),
        }
        if file.content_id:
            entry["content_id"] = file.content_id[:_MAX_VALUE]
        if kept + len(file.content) <= MAX_KEPT_BYTES:
            kept += len(file.content)
            entry["content"] = base64.b64encode(file.content).decode()
        attachments.append(entry)
    return attachments


def _metadata(message_id: str, headers: Mapping[str, str], form: _Form) -> dict[str, str]:
    """Return what threads an e-mail to what it answers, and what SendGrid found out about its sender."""
    metadata = {
        "message_id_header": message_id[:_MAX_VALUE],
        "in_reply_to": headers.get("in-reply-to", "")[:_MAX_VALUE],
        # The newest are at the end.
        "references": headers.get("references", "")[-_MAX_REFERENCES:],
        **{name.lower(): unfolded(form.text(name))[:_MAX_VALUE] for name in ("SPF", "dkim", "spam_score")},
        "cc": form.header("cc", headers)[:_MAX_VALUE],
    }
    return {name: value for name, value in metadata.items() if value}


def _identity(
    message_id: str, envelope_from: str, recipients: Iterable[str], form: _Form, email: ReceivedEmail
) -> str:
    """Return what stays the same when SendGrid hands an e-mail over again: it gives it no id of its own.

    An e-mail without a Message-ID is known by what it says.
    """
    known_by: list[str] = [message_id]
    if not message_id:
        known_by += [form.text("from"), form.text("subject"), email.text, email.html]
    return _digest([*known_by, envelope_from, *sorted(recipients)])


def _digest(parts: Sequence[str]) -> str:
    text = orjson.dumps([part.encode(errors="replace").decode() for part in parts])
    return hashlib.blake2b(text, digest_size=20).hexdigest()


def _sender(header: str) -> str:
    """Return the sender with the name it gives itself, "" when the header names none.

    The header is taken apart before its encoded words are decoded: a name must not become an address.
    """
    named = _NAMED.fullmatch(header)
    address = named[2] if named else next(iter(_addresses(header)), "")
    name = decode_words(named[1]).strip(' "') if named else ""
    written = f"{name} <{address}>"
    return written if name and not _UNSAFE_IN_NAME.search(name) and len(written) <= _MAX_ADDRESS else address


def _addresses(header: str) -> list[str]:
    """Return the bare addresses of a header; never raises."""
    try:
        found = getaddresses([header[:_MAX_ADDRESSES]])
    except (ValueError, IndexError, RecursionError):
        return []
    return [address for _, address in found if "@" in address]


def _time(text: str) -> datetime | None:
    """Return when an e-mail was written, None when its Date is absent or cannot be right."""
    try:
        moment = parsedate_to_datetime(text)
        moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    now = datetime.now(UTC)
    return moment if now - _OLDEST <= moment <= now else None


def _object(data: bytes) -> dict[str, Any]:
    """Return a field that holds a JSON object, empty when it does not."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
