"""Twilio keeps the contract, over the official SDK's own wire."""

from collections.abc import AsyncIterator, Sequence
from urllib.parse import parse_qsl, quote_plus

import orjson
import pytest

from services.providers.base import (
    Inbound,
    OutboundMessage,
    Receipt,
    WebhookContent,
    WebhookRequest,
)
from services.providers.twilio import TwilioProvider
from tests.unit.providers.contract.adapter import (
    Behaviour,
    ProviderAdapter,
    WebhookSample,
    WebhookSamples,
    text_message,
)
from tests.unit.providers.contract.suite import ProviderContract
from tests.unit.providers.twilio_carrier import (
    ACCOUNT,
    MESSAGES,
    OLD_BASIC_AUTH,
    SENDER,
    SERVICE,
    TOKEN,
    WEBHOOK,
    TwilioCarrier,
    form_request,
    json_request,
)

pytestmark = OLD_BASIC_AUTH

SID = "SM" + "a" * 32
# Account SID and token as HTTP Basic has them.
CREDENTIALS = "QUMwMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjowZjFlMmQzYzRiNWE2OTc4ODc5NmE1YjRjM2QyZTFmMA=="
MESSAGE_ID = "01927c3e-7b4a-7cc0-8000-3a5b8c2d1e0f"
CALLBACK = f"{WEBHOOK}?message_id={MESSAGE_ID}&attempt=2"
STATUS = {"AccountSid": ACCOUNT, "MessageSid": SID, "From": SENDER, "To": "+15559876543", "ApiVersion": ""}
INBOUND = {
    "ToCountry": "US", "SmsMessageSid": SID, "NumMedia": "0", "FromCity": "", "SmsStatus": "received",
    "Body": "¿Sí? 100% & more 🐎 ", "MessagingServiceSid": SERVICE, "To": SENDER, "MessageSid": SID,
    "AccountSid": ACCOUNT, "From": "+15559876543", "ApiVersion": "2010-04-01",
}  # fmt: skip
ANSWER = b'<?xml version="1.0" encoding="UTF-8"?><Response/>'


class TwilioWebhooks(WebhookSamples):
    signature_headers = ("x-twilio-signature",)

    def __init__(self) -> None:
        media = {
            "MessageSid": "MM" + "b" * 32, "NumMedia": "2", "Body": "",
            "MediaUrl0": "https://api.twilio.com/2010-04-01/M/0", "MediaContentType0": "image/jpeg",
            "MediaUrl1": "https://api.twilio.com/2010-04-01/M/1",
        }  # fmt: skip
        labels = {"AccountSid": ACCOUNT, "MessagingServiceSid": SERVICE, "ToCountry": "US"}
        self.genuine = [
            WebhookSample(form_request(STATUS | {"MessageStatus": "delivered"}, url=CALLBACK), _receipt()),
            WebhookSample(
                form_request(
                    STATUS | {"MessageStatus": "undelivered", "ErrorCode": "30003"}, url=CALLBACK
                ),
                _receipt("undelivered", error_code="30003", detail="unreachable destination handset"),
            ),
            WebhookSample(
                json_request(STATUS | {"MessageStatus": "queued"}, url=CALLBACK),
                _receipt("queued", state="", detail="queued"),
            ),
            WebhookSample(
                form_request(INBOUND),
                _inbound(
                    Inbound(
                        event_key=SID, channel="sms", sender="+15559876543", recipient=SENDER,
                        body="¿Sí? 100% & more 🐎 ", provider_message_id=SID, metadata=labels,
                    )
                ),
            ),
            WebhookSample(
                form_request(INBOUND | media),
                _inbound(
                    Inbound(
                        event_key="MM" + "b" * 32, channel="mms", sender="+15559876543", recipient=SENDER,
                        provider_message_id="MM" + "b" * 32, metadata=labels,
                        attachments=[
                            {"url": media["MediaUrl0"], "content_type": "image/jpeg", "filename": ""},
                            {
                                "url": media["MediaUrl1"],
                                "content_type": "application/octet-stream",
                                "filename": "",
                            },
                        ],
                    )
                ),
            ),
        ]  # fmt: skip
        self.malformed = {
            "MessageSid is missing": form_request({"MessageStatus": "sent"}, url=CALLBACK),
            "MessageSid is not": form_request(INBOUND | {"MessageSid": "SM 1"}),
            "MessageStatus is not": form_request(STATUS | {"MessageStatus": ""}, url=CALLBACK),
            "MessageStatus is repeated": form_request(
                [*STATUS.items(), ("MessageStatus", "sent"), ("MessageStatus", "read")], url=CALLBACK
            ),
            "message_id of the URL": form_request(
                STATUS | {"MessageStatus": "sent"}, url=f"{WEBHOOK}?message_id=1"
            ),
            "attempt of the URL": form_request(
                STATUS | {"MessageStatus": "sent"}, url=CALLBACK.replace("=2", "=32768")
            ),
            "ErrorCode": form_request(STATUS | {"MessageStatus": "failed", "ErrorCode": "x"}),
            "Body is missing": form_request(_without(INBOUND, "Body")),
            "From is missing": form_request(INBOUND | {"From": ""}),
            "To is missing": form_request(_without(INBOUND, "To")),
            "NumMedia": form_request(INBOUND | {"NumMedia": "-1"}),
            "MediaUrl0 is missing": form_request(INBOUND | {"NumMedia": "1"}),
            "MediaUrl0 is not": form_request(INBOUND | {"NumMedia": "1", "MediaUrl0": "file:///etc/passwd"}),
            "body is not a form or a JSON object": json_request([STATUS]),
        }

    def redelivered(self, request: WebhookRequest) -> WebhookRequest:
        # Twilio signs no time: the same request comes again.
        return request

    def signed_by_a_stranger(self, request: WebhookRequest) -> WebhookRequest:
        if "bodySHA256" in request.url:
            return json_request(orjson.loads(request.body), url=CALLBACK, token="a-strangers-token")
        fields = parse_qsl(request.body.decode(), keep_blank_values=True)
        return form_request(fields, url=request.url, token="a-strangers-token")


class TwilioAdapter(ProviderAdapter):
    channel = "sms"
    secrets = (TOKEN, CREDENTIALS)
    retry_after = 7.0

    def __init__(self, carrier: TwilioCarrier) -> None:
        self.webhooks = TwilioWebhooks()
        self.provider: TwilioProvider = TwilioProvider(carrier.config(messaging_service_sid=SERVICE))
        self._carrier = carrier

    def message(self, number: int) -> OutboundMessage:
        return text_message(number, channel="sms", sender=SENDER, recipient=f"+1555987{number:04d}")

    async def play(self, behaviour: Behaviour) -> None:
        await self._carrier.play(behaviour)

    def requests(self) -> Sequence[object]:
        return [
            (request.target, request.headers["authorization"], request.headers["content-type"], request.body)
            for request in self._carrier.requests
            if request.method == "POST"
        ]

    def expected_request(self, message: OutboundMessage) -> object:
        body = (
            f"To=%2B{message.recipient[1:]}&From=%2B15551234567&MessagingServiceSid={SERVICE}"
            f"&Body={quote_plus(message.body)}"
            "&StatusCallback=https%3A%2F%2Fhooks.example.com%2Fapi%2Fv1%2Fwebhooks%2Ftwilio"
            f"%3Fmessage_id%3D{message.id}%26attempt%3D1"
        )
        return (MESSAGES, f"Basic {CREDENTIALS}", "application/x-www-form-urlencoded", body.encode())

    def accepted_id(self, message: OutboundMessage) -> str:
        (sid,) = [
            record["sid"]
            for record in self._carrier.records
            if (record["to"], record["body"]) == (message.recipient, message.body)
        ]
        return str(sid)


def _receipt(
    status: str = "delivered", *, state: str | None = None, error_code: str = "", detail: str = ""
) -> WebhookContent:
    receipt = Receipt(
        event_key=f"{SID}:{status}",
        state=status if state is None else state,
        message_id=MESSAGE_ID,
        provider_message_id=SID,
        attempt=2,
        error_code=error_code,
        detail=detail,
    )
    return WebhookContent(receipts=[receipt], answer_type="text/xml", answer_body=ANSWER)


def _inbound(message: Inbound) -> WebhookContent:
    return WebhookContent(inbound=[message], answer_type="text/xml", answer_body=ANSWER)


def _without(fields: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in fields.items() if key != name}


class TestTwilioContract(ProviderContract):
    @pytest.fixture
    async def adapter(self) -> AsyncIterator[ProviderAdapter]:
        async with TwilioCarrier() as carrier:
            adapter = TwilioAdapter(carrier)
            await adapter.provider.start()
            yield adapter
            await adapter.provider.close()
