"""Where and how to reach an SMTP server: the SMTP_URL."""

import ssl
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from services.kit.networks import is_loopback

Tls = Literal["starttls", "tls", "none"]

_DEFAULT_PORTS: Final[dict[Tls, int]] = {"starttls": 587, "tls": 465, "none": 25}


@dataclass(frozen=True, slots=True)
class SmtpConfig:
    """A server and how to talk to it. Times are in seconds.

    `command_timeout` bounds one command or the opening of a connection, `message_timeout` the whole of one
    message, `idle_timeout` the time an unused connection is kept. `tls_context` None: the system's.
    """

    host: str
    port: int
    tls: Tls = "starttls"
    username: str = ""
    password: str = field(default="", repr=False)
    connections: int = 4
    command_timeout: float = 20.0
    message_timeout: float = 60.0
    idle_timeout: float = 30.0
    local_hostname: str | None = None
    tls_context: ssl.SSLContext | None = field(default=None, repr=False)


def parse_smtp_url(url: str, *, connections: int = 4, allow_plaintext: bool = False) -> SmtpConfig:
    """Return what `smtp://user:password@host:587?tls=starttls` says, or raise ValueError, not repeating it.

    smtps:// is TLS from the first byte; smtp:// is STARTTLS, and never goes on without it, unless
    `tls=none` says otherwise. That is refused for hosts beyond loopback unless `allow_plaintext`: password
    and mail would be open to everyone on the way. User and password are percent-encoded.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("is not a URL of the form smtp://user:password@host:587") from None
    if parts.scheme not in {"smtp", "smtps"} or not parts.hostname or parts.path.strip("/") or parts.fragment:
        raise ValueError("is not a URL of the form smtp://user:password@host:587")
    tls = _tls(parts.scheme, parts.query)
    if tls == "none" and not (allow_plaintext or is_loopback(parts.hostname)):
        raise ValueError(
            "has tls=none for a host beyond loopback; POSTHOUSE_SMTP_ALLOW_PLAINTEXT=true allows it"
        )
    username, password = unquote(parts.username or ""), unquote(parts.password or "")
    if bool(username) != bool(password):
        raise ValueError("has a user without a password, or a password without a user")
    return SmtpConfig(
        host=parts.hostname,
        port=port or _DEFAULT_PORTS[tls],
        tls=tls,
        username=username,
        password=password,
        connections=connections,
    )


def _tls(scheme: str, query: str) -> Tls:
    given = parse_qs(query, keep_blank_values=True)
    if set(given) - {"tls"} or len(given.get("tls", [])) > 1:
        raise ValueError("has a query other than tls=starttls or tls=none")
    asked = given.get("tls", ["tls" if scheme == "smtps" else "starttls"])[0]
    if scheme == "smtps" and asked == "tls":
        return "tls"
    if scheme == "smtp" and asked == "starttls":
        return "starttls"
    if scheme == "smtp" and asked == "none":
        return "none"
    raise ValueError("has a tls other than starttls or none, or one that smtps:// contradicts")
