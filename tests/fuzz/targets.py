"""What reads bytes from outside, each as a function of an input, and inputs to begin with.

A target returns when the input was understood, refused or named malformed; whatever else it raises is a find.
"""

import base64
import contextlib
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.parse import urlencode

import orjson
from google.protobuf.message import DecodeError

from gateway.webhooks import called_url, template_of
from posthouse.v1 import message_service_pb2 as pb
from services.conversation.monitor import Failed, number_variants, read_tenants
from services.kit.errors import InvalidRequestError
from services.ledger.addresses import InvalidAddressError, normalise
from services.message.placing import distinct_receipts
from services.message.receiving import read_inbound
from services.message.webhook_logging import log_entry
from services.providers.base import MalformedWebhookError, WebhookContent, WebhookRequest
from services.providers.sendgrid import SendGridConfig, SendGridProvider
from services.providers.simulator_webhook import parse_events, verify_signature
from services.providers.twilio import TwilioConfig, TwilioProvider
from tests.unit.message.drafts import check_draft, check_storable
from tests.unit.providers import sendgrid_requests as sendgrid
from tests.unit.providers import twilio_carrier as twilio

_TWILIO: Final = TwilioProvider(
    TwilioConfig(account_sid=twilio.ACCOUNT, auth_token=twilio.TOKEN, webhook_base_url=twilio.PUBLIC)
)
_SENDGRID: Final = SendGridProvider(
    SendGridConfig("key", public_key=sendgrid.public_key(), inbound_token=sendgrid.TOKEN)
)
_FORM: Final = "application/x-www-form-urlencoded"
_NUMBER: Final = "+15559876543"


class Target(NamedTuple):
    """A function of an input, and inputs to begin with."""

    read: Callable[[bytes], None]
    seeds: Sequence[bytes]


def twilio_form(data: bytes) -> None:
    """Read a form of Twilio's."""
    _parse(_TWILIO.parse, WebhookRequest("POST", twilio.WEBHOOK, {"content-type": _FORM}, data))


def twilio_json(data: bytes) -> None:
    """Read a JSON body of Twilio's."""
    _parse(_TWILIO.parse, WebhookRequest("POST", twilio.WEBHOOK, {"content-type": "application/json"}, data))


def sendgrid_events(data: bytes) -> None:
    """Read a body of SendGrid's Event Webhook."""
    _parse(_SENDGRID.parse, WebhookRequest("POST", sendgrid.URL, {"content-type": "application/json"}, data))


def sendgrid_form(data: bytes) -> None:
    """Read a form of Inbound Parse; the boundary is that of the seeds."""
    headers = {"content-type": "multipart/form-data; boundary=xYzZY"}
    _parse(_SENDGRID.parse, WebhookRequest("POST", sendgrid.TOKEN_URL, headers, data))


def sendgrid_raw(data: bytes) -> None:
    """Read an e-mail that Inbound Parse hands over raw."""
    _parse(
        _SENDGRID.parse,
        sendgrid.form({"email": data, "envelope": '{"to":["a@b.example"],"from":"c@d.example"}'}),
    )


def simulator_events(data: bytes) -> None:
    """Read a body of the simulator's."""
    _parse(lambda request: parse_events(request.body), WebhookRequest("POST", "", {}, data))


def received(data: bytes) -> None:
    """Read an inbound message of another system's, from its bytes on the wire."""
    try:
        message = pb.InboundMessage.FromString(data)
    except DecodeError:
        return
    try:
        draft = read_inbound(message, {"twilio"}, now=datetime.now(UTC))
    except InvalidRequestError:
        return
    check_storable(draft)


def proofs(data: bytes) -> None:
    """Check the signatures and the token of requests whose URL and headers are the input's lines."""
    url, signature, extra, body = (*(data.split(b"\n", 3)), b"", b"", b"")[:4]
    text, second, third = (part.decode("latin-1") for part in (url, signature, extra))
    headers = {
        "x-twilio-signature": second,
        "x-twilio-webhooks-signature-settings": third,
        sendgrid.SIGNATURE: second,
        sendgrid.TIMESTAMP: third,
        "x-posthouse-simulator-signature": second,
        "x-posthouse-simulator-timestamp": third,
    }
    for content_type, provider in (
        (_FORM, _TWILIO),
        ("application/json", _TWILIO),
        ("application/json", _SENDGRID),
    ):
        request = WebhookRequest("POST", text, {**headers, "content-type": content_type}, body)
        assert not provider.verify(request)
        log_entry("0" * 36, "test", request, remote_address="", verdict="forged")
    assert not verify_signature("secret", WebhookRequest("POST", text, headers, body))
    form = WebhookRequest("POST", text, {"content-type": "multipart/form-data"}, body)
    assert not _SENDGRID.verify(form) or "token" in text
    scope = {
        "scheme": "http",
        "path": text,
        "raw_path": url,
        "query_string": extra,
        "headers": [(b"host", signature)],
    }
    assert template_of(text)
    with contextlib.suppress(InvalidRequestError):
        assert called_url(scope).encode()


def monitor_answers(data: bytes) -> None:
    """Read an answer of the register of tenants."""
    found = read_tenants(data)
    if not isinstance(found, Failed):
        assert all(tenant.tenant_id and tenant.language in {None, "en", "es", "pt"} for tenant in found)
    assert _NUMBER in number_variants(_NUMBER, data.decode("latin-1"))


def addresses(data: bytes) -> None:
    """Read a phone number or an e-mail address."""
    text = data.decode(errors="surrogateescape")
    for options in (
        {},
        {"strict": True},
        {"default_region": "US"},
        {"allow_short_code": True, "allow_alphanumeric": True},
    ):
        try:
            address = normalise(text, **options)
        except InvalidAddressError:
            continue
        assert (
            normalise(address.canonical, allow_short_code=True, allow_alphanumeric=True).canonical
            == address.canonical
        )


def _parse(parse: Callable[[WebhookRequest], WebhookContent], request: WebhookRequest) -> None:
    try:
        content = parse(request)
    except MalformedWebhookError:
        return
    for row in distinct_receipts("test", content.receipts, ""):
        for text in (row.event_key, row.provider_message_id, row.error_code, row.detail):
            assert "\0" not in (text or "")
        assert 0 <= row.attempt < 1 << 15
    for inbound in content.inbound:
        check_draft(inbound)


def _proof(timestamp: str) -> bytes:
    signature = base64.b64encode(b"0" * 70).decode()
    return f"{sendgrid.URL}\n{signature}\n{timestamp}\nMessageSid=SM1".encode()


_SMS: Final = {
    "MessageSid": "SM1",
    "From": _NUMBER,
    "To": twilio.SENDER,
    "Body": "¿Qué tal?",
    "NumMedia": "0",
}
_MMS: Final = {
    **_SMS,
    "NumMedia": "1",
    "MediaUrl0": "https://api.twilio.com/m",
    "MediaContentType0": "image/png",
}
_NEWS: Final = {
    "MessageSid": "SM1",
    "MessageStatus": "undelivered",
    "ErrorCode": "30003",
    "ErrorMessage": "x",
}
_EVENT: Final = {
    "event": "delivered", "message_id": "0199aaaa-0000-7000-8000-000000000001", "attempt": 1,
    "provider_message_id": "SM1", "timestamp": "2026-01-02T03:04:05.678Z",
}  # fmt: skip
_REPLY: Final = {
    **_EVENT,
    "event": "reply",
    "channel": "sms",
    "from": _NUMBER,
    "to": twilio.SENDER,
    "body": "Hi",
}
_MESSAGE: Final = pb.InboundMessage(
    source="crm", event_id="1", sender=_NUMBER, recipient=twilio.SENDER, body="Hi", metadata={"a": "b"}
)

TARGETS: Final = {
    "twilio_form": Target(twilio_form, [urlencode(fields).encode() for fields in (_SMS, _MMS, _NEWS)]),
    "twilio_json": Target(twilio_json, [orjson.dumps(fields) for fields in (_SMS, _MMS, _NEWS)]),
    "sendgrid_events": Target(
        sendgrid_events,
        [sendgrid.events(sendgrid.event(kind, reason="550")) for kind in ("delivered", "bounce")],
    ),
    "sendgrid_form": Target(
        sendgrid_form,
        [
            sendgrid.form(sendgrid.mail()).body,
            sendgrid.form(sendgrid.mail(), [("attachment1", "a.txt", "text/plain", b"x")]).body,
        ],
    ),
    "sendgrid_raw": Target(sendgrid_raw, [sendgrid.RAW]),
    "simulator_events": Target(simulator_events, [orjson.dumps([_EVENT, _REPLY])]),
    "received": Target(received, [_MESSAGE.SerializeToString()]),
    "proofs": Target(proofs, [_proof(str(int(time.time()))), _proof("x")]),
    "monitor_answers": Target(
        monitor_answers,
        [b'{"tenants":[{"tenant_id":"t1","name":"Ana","phone_numbers":["5559876543"],"language_preference":"es"}]}'],
    ),
    "addresses": Target(
        addresses,
        [b"+1 (555) 987-6543", b"tel:+442079460958", b'"Lee, Ann" <Ann@b\xc3\xbccher.example>', b"12345"],
    ),
}  # fmt: skip
