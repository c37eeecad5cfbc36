"""Webhook requests as SendGrid makes them: signed events, and the forms of Inbound Parse."""

import base64
import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from services.providers.base import WebhookRequest

URL = "https://hooks.example.com/api/v1/webhooks/sendgrid"
TOKEN = "token+of/the tests"
TOKEN_URL = f"{URL}?token=token%2Bof%2Fthe+tests"
SIGNATURE = "x-twilio-email-event-webhook-signature"
TIMESTAMP = "x-twilio-email-event-webhook-timestamp"

KEY = ec.derive_private_key(0x5E6D_C0FFEE, ec.SECP256R1())
STRANGER = ec.derive_private_key(0xBAD_C0FFEE, ec.SECP256R1())


def public_key(key: ec.EllipticCurvePrivateKey = KEY) -> str:
    """Return the public half as SendGrid's settings page shows it."""
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


def signed(
    body: bytes, *, key: ec.EllipticCurvePrivateKey = KEY, age: int = 0, timestamp: str = ""
) -> WebhookRequest:
    """Return a request of the Event Webhook: ECDSA with SHA-256 over timestamp and body, in base64."""
    timestamp = timestamp or str(int(time.time()) - age)
    signature = key.sign(timestamp.encode() + body, ec.ECDSA(hashes.SHA256()))
    return WebhookRequest(
        "POST",
        URL,
        {
            "content-type": "application/json",
            "user-agent": "SendGrid Event API",
            SIGNATURE: base64.b64encode(signature).decode(),
            TIMESTAMP: timestamp,
        },
        body,
    )


def events(*given: Mapping[str, Any]) -> bytes:
    """Return the body as SendGrid writes it: a line for each event, and one at the end."""
    return b"[" + b",\r\n".join(orjson.dumps(event) for event in given) + b"]\r\n"


def event(kind: str, **more: Any) -> dict[str, Any]:
    """Return an event of a message that is ours."""
    return {
        "email": "ann@example.com",
        "timestamp": 1767323045,
        "smtp-id": "<14c5d75ce93.dfd.64b469@ismtpd-555>",
        "event": kind,
        "category": ["cat facts"],
        "sg_event_id": "rbtnWrG1DVDGGGFHFyun0A==",
        "sg_message_id": "14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0",
        "message_id": "0199aaaa-0000-7000-8000-000000000001",
        "message_attempt": "2",
    } | more


def form(
    fields: Mapping[str, str | bytes],
    files: Sequence[tuple[str, str, str, bytes]] = (),
    *,
    url: str = TOKEN_URL,
    boundary: str = "xYzZY",
) -> WebhookRequest:
    """Return a request of Inbound Parse; files are (field, filename, content type, content)."""
    lines: list[bytes] = []
    for name, value in fields.items():
        data = value.encode() if isinstance(value, str) else value
        lines += [f"--{boundary}".encode(), f'Content-Disposition: form-data; name="{name}"'.encode()]
        lines += [b"", data]
    for name, filename, content_type, data in files:
        disposition = f'Content-Disposition: form-data; name="{name}"; filename="{filename}"'
        lines += [f"--{boundary}".encode(), disposition.encode(), f"Content-Type: {content_type}".encode()]
        lines += [b"", data]
    body = b"\r\n".join([*lines, f"--{boundary}--".encode(), b""])
    return WebhookRequest("POST", url, {"content-type": f"multipart/form-data; boundary={boundary}"}, body)


def mail(**more: str | bytes) -> dict[str, str | bytes]:
    """Return the fields of an e-mail as Inbound Parse gives them."""
    return {
        "headers": (
            "Received: by mx0001.sendgrid.net with SMTP id xyz\n"
            "Message-ID: <reply-1@mail.example.com>\n"
            "In-Reply-To: <0199aaaa-0000-7000-8000-000000000001@posthouse.example>\n"
            "References: <first@example.com>\n"
            " <0199aaaa-0000-7000-8000-000000000001@posthouse.example>\n"
            "Date: Mon, 5 Jan 2015 10:00:00 +0000\n"
        ),
        "dkim": "{@example.com : pass}",
        "to": "Desk <desk@posthouse.example>",
        "from": "Ann Lee <ann@example.com>",
        "subject": "Re: Rent",
        "text": "Thanks!\r\n",
        "html": "<p>Thanks!</p>\r\n",
        "sender_ip": "192.0.2.7",
        "envelope": '{"to":["desk@posthouse.example"],"from":"bounce+7@example.com"}',
        "attachments": "0",
        "SPF": "pass",
        "spam_score": "0.1",
        "charsets": '{"to":"UTF-8","html":"UTF-8","subject":"UTF-8","from":"UTF-8","text":"UTF-8"}',
    } | more


# A message as raw mode hands it over.
RAW = b"""\
From: =?iso-8859-1?q?Andr=E9?= <andre@example.com>
To: desk@posthouse.example
Subject: =?utf-8?q?=C3=9Cber?= =?utf-8?q?_Miete?=
Message-ID: <raw-1@mail.example.com>
In-Reply-To: <parent@posthouse.example>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=outer

--outer
Content-Type: multipart/alternative; boundary=inner

--inner
Content-Type: text/plain; charset=windows-1252
Content-Transfer-Encoding: quoted-printable

5 =80 =93gr=FC=DFe=94

--inner
Content-Type: text/html; charset=iso-8859-1
Content-Transfer-Encoding: base64

PHA+ZPxubjwvcD4NCg==

--inner--
--outer
Content-Type: application/pdf; name="a.pdf"
Content-Disposition: attachment; filename*=utf-8''M%C3%BCll.pdf
Content-Transfer-Encoding: base64

AAEC
--outer
Content-Type: message/rfc822

Subject: forwarded

inner text
--outer--
"""
