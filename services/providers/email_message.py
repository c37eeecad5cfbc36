"""Builds the MIME message of an e-mail, so that nothing in a message can become a header of its own.

Headers are written as raw, already encoded lines. The standard library's header objects read a text
before they write it, and decode an encoded word in it on the way: a subject of `=?utf-8?q?=0D=0ABcc:...`
would come out as a line break and a header.
"""

import base64
import binascii
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.header import Header
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime
from typing import Any, Final
from urllib.parse import quote

import idna

from services.providers.base import OutboundMessage

# 7bit: the relay need not offer 8BITMIME. Raw headers are encoded and folded already.
_ASCII_POLICY: Final = SMTP.clone(cte_type="7bit", refold_source="none")
_UTF8_POLICY: Final = SMTPUTF8.clone(cte_type="7bit", refold_source="none")

_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_PLAIN_SUBJECT: Final = re.compile(r"(?!.*=\?)[\x21-\x7e](?:[\x20-\x7e]{0,65}[\x21-\x7e])?")
# Canonical addresses have no quoted local part; everything that ends an address in a header is left out.
_ADDRESS: Final = re.compile('([^\x00-\x20\x7f-\xa0\u2028\u2029\ud800-\udfff()<>@,;:\\\\"\\[\\]]+)@([^@]+)')
_DOMAIN: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,253}[A-Za-z0-9])?|\[[0-9A-Fa-f.:IPv]+\]")
_MESSAGE_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - the grammar's word, no secret
_MEDIA_TYPE: Final = re.compile(
    rf'({_TOKEN}/{_TOKEN})(?:\s*;\s*{_TOKEN}=(?:{_TOKEN}|"[^"\\\x00-\x1f\x7f]*"))*'
)
_SAFE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]*")

_OPAQUE: Final = "application/octet-stream"
_MAX_TYPE_LENGTH: Final = 255
# Characters of a file name: percent-encoded they must stay within a line of 998.
_MAX_NAME_LENGTH: Final = 75
_MAX_SUFFIX_LENGTH: Final = 12


class UnsendableError(Exception):
    """The message cannot be made an e-mail of; the text says why, without its content."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class AttachedFile:
    """An attachment that travels in the message. `content_type` has its parameters."""

    filename: str
    content_type: str
    content: bytes = field(repr=False)

    @property
    def media_type(self) -> str:
        """Return the type without its parameters."""
        return self.content_type.partition(";")[0].strip()


@dataclass(frozen=True, slots=True)
class EmailParts:
    """What an e-mail is made of, whoever carries it. Domains are ASCII; `text` and `html` may be empty."""

    sender: str
    recipient: str
    subject: str
    message_id: str
    text: str = field(repr=False)
    html: str = field(repr=False)
    files: Sequence[AttachedFile] = ()
    in_reply_to: str = ""
    # Message-IDs of the thread; the last is ours: where a relay puts one of its own in place of it, a reply
    # names ours all the same.
    references: Sequence[str] = ()
    # Empty: answers go to the sender.
    reply_to: str = ""

    @property
    def needs_utf8(self) -> bool:
        """Tell whether an address has a local part that only SMTPUTF8 (RFC 6531) can carry."""
        return not (self.sender + self.recipient + self.reply_to).isascii()


def email_parts(message: OutboundMessage) -> EmailParts:
    """Return the parts of an e-mail, or raise UnsendableError.

    Attachments by URL are not fetched: whoever may send would have this machine read any address it can
    reach. They become links, below the text and below the HTML; the HTML itself stays as it is, byte for
    byte, with the links behind it. `message_id` is our id at the sender's domain, the same on every attempt.
    """
    sender, recipient = ascii_address(message.sender), ascii_address(message.recipient)
    if not _MESSAGE_ID.fullmatch(message.id):
        raise UnsendableError("invalid_id", "the message's id does not fit a Message-ID")
    links = [attachment for attachment in message.attachments if not attachment.get("content")]
    text, rich = message.body, message.html
    if links:
        if text or not rich:
            text = "\n\n".join([text, _text_links(links)]) if text else _text_links(links)
        if rich:
            rich += _html_links(links)
    own_id = f"<{message.id}@{sender.rpartition('@')[2]}>"
    return EmailParts(
        sender=sender,
        recipient=recipient,
        subject=_CONTROLS.sub(" ", message.subject).strip(),
        message_id=own_id,
        text=_encodable(text),
        html=_encodable(rich),
        files=[_file(attachment) for attachment in message.attachments if attachment.get("content")],
        in_reply_to=message.in_reply_to,
        references=[*message.references, own_id],
        reply_to=ascii_address(message.reply_to) if message.reply_to else "",
    )


def ascii_address(address: str) -> str:
    """Return an address with its domain in ASCII (IDNA 2008), or raise UnsendableError."""
    found = _ADDRESS.fullmatch(address)
    if not found:
        raise UnsendableError("invalid_address", "an address is not of the form local@domain")
    local, domain = found.groups()
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True).decode("ascii")
        except idna.IDNAError:
            raise UnsendableError("invalid_address", "a domain has no ASCII form") from None
    if not _DOMAIN.fullmatch(domain):
        raise UnsendableError("invalid_address", "a domain has characters that no domain has")
    return f"{local}@{domain}"


def build_email(parts: EmailParts, *, now: datetime) -> bytes:
    """Return the message as it goes over the wire, in lines of at most 998 bytes ending in CRLF."""
    root = EmailMessage(policy=_UTF8_POLICY if parts.needs_utf8 else _ASCII_POLICY)
    root.set_raw("From", parts.sender)
    root.set_raw("To", parts.recipient)
    if parts.reply_to:
        root.set_raw("Reply-To", parts.reply_to)
    if parts.subject:
        root.set_raw("Subject", encoded_subject(parts.subject))
    root.set_raw("Date", format_datetime(now))
    root.set_raw("Message-ID", parts.message_id)
    if parts.in_reply_to:
        root.set_raw("In-Reply-To", parts.in_reply_to)
    root.set_raw("References", "\r\n ".join(parts.references))
    root.set_raw("MIME-Version", "1.0")
    if parts.text or not parts.html:
        root.set_content(parts.text, charset="utf-8")
    if parts.html and parts.text:
        root.make_alternative()
        root.attach(_fill(EmailMessage(policy=root.policy), "text/html; charset=utf-8", parts.html.encode()))
    elif parts.html:
        _fill(root, "text/html; charset=utf-8", parts.html.encode())
    if parts.files:
        root.make_mixed()
        for file in parts.files:
            part = _fill(EmailMessage(policy=root.policy), file.content_type, file.content)
            part.set_raw("Content-Disposition", _disposition(file.filename))
            root.attach(part)
    return root.as_bytes()


def encoded_subject(subject: str) -> str:
    """Return a subject as a header may have it: as it is, or in encoded words (RFC 2047)."""
    if _PLAIN_SUBJECT.fullmatch(subject):
        return subject
    return Header(subject, "utf-8", maxlinelen=76, header_name="Subject").encode()


def _fill(part: EmailMessage, content_type: str, content: bytes) -> EmailMessage:
    """Make a part of these bytes, and return it. Base64 keeps them, line ends and all."""
    part.set_raw("Content-Type", content_type)
    part.set_raw("Content-Transfer-Encoding", "base64")
    part.set_payload(base64.encodebytes(content).decode("ascii"))
    return part


def _file(attachment: Mapping[str, Any]) -> AttachedFile:
    try:
        content = base64.b64decode(attachment["content"], validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise UnsendableError("invalid_attachment", "an attachment's content is not base64") from None
    return AttachedFile(
        filename=_name(attachment) or "attachment",
        content_type=_content_type(str(attachment.get("content_type") or "")),
        content=content,
    )


def _content_type(text: str) -> str:
    """Return a type that a part in base64 may have: not those whose content is parts (RFC 2046, 5.1)."""
    found = _MEDIA_TYPE.fullmatch(text) if len(text) <= _MAX_TYPE_LENGTH and text.isascii() else None
    if not found or found[1].lower().startswith(("multipart/", "message/")):
        return _OPAQUE
    return text


def _name(attachment: Mapping[str, Any]) -> str:
    """Return the file name without what could end a header, its end kept when it must be cut."""
    name = _CONTROLS.sub(" ", str(attachment.get("filename") or "")).strip()
    if len(name) <= _MAX_NAME_LENGTH:
        return name
    stem, dot, suffix = name.rpartition(".")
    if not dot or len(suffix) > _MAX_SUFFIX_LENGTH:
        return name[:_MAX_NAME_LENGTH]
    return f"{stem[: _MAX_NAME_LENGTH - len(suffix) - 1]}.{suffix}"


def _disposition(name: str) -> str:
    if _SAFE_NAME.fullmatch(name):
        return f'attachment; filename="{name}"'
    return f"attachment;\r\n filename*=utf-8''{quote(name, safe='')}"  # RFC 2231


def _text_links(links: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(
        f"{_name(link)}: {link.get('url')}" if _name(link) else str(link.get("url")) for link in links
    )


def _html_links(links: Sequence[Mapping[str, Any]]) -> str:
    anchors = (
        f'<a href="{html.escape(str(link.get("url")))}">'
        f"{html.escape(_name(link) or str(link.get('url')))}</a>"
        for link in links
    )
    return f"\n<p>{'<br>'.join(anchors)}</p>"


def _encodable(text: str) -> str:
    return text if text.isascii() else text.encode(errors="replace").decode()
