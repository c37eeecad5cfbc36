"""The simulator keeps the contract. Its wire is its file, so what breaks connections cannot happen to it."""

import hashlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import orjson
import pytest

from services.providers.base import (
    Inbound,
    OutboundMessage,
    Outcome,
    Receipt,
    Retryable,
    WebhookContent,
    WebhookRequest,
)
from services.providers.simulator import SimulatorConfig, SimulatorProvider
from services.providers.simulator_profile import SimulatorProfile
from services.providers.simulator_store import SimulatorStore
from services.providers.simulator_webhook import SIGNATURE_HEADER, TIMESTAMP_HEADER, sign
from tests.unit.providers.conftest import NOWHERE
from tests.unit.providers.contract.adapter import (
    Behaviour,
    ProviderAdapter,
    WebhookSample,
    WebhookSamples,
    text_message,
)
from tests.unit.providers.contract.suite import ProviderContract

SECRET = "the-carriers-own-secret"
MESSAGE_ID = "01927c3e-7b4a-7cc0-8000-3a5b8c2d1e0f"

PROFILES = {
    Behaviour.ACCEPT: SimulatorProfile(),
    Behaviour.RATE_LIMIT: SimulatorProfile(rate_limited_rate=1.0),
    Behaviour.SERVER_ERROR: SimulatorProfile(server_error_rate=1.0),
    Behaviour.REJECT: SimulatorProfile(rejected_rate=1.0),
    Behaviour.HANG: SimulatorProfile(timeout_rate=1.0),
}


class SimulatorWebhooks(WebhookSamples):
    signature_headers = (TIMESTAMP_HEADER.lower(), SIGNATURE_HEADER.lower())

    def __init__(self) -> None:
        base = {"message_id": MESSAGE_ID, "attempt": 2, "provider_message_id": "SM1"}
        when = {"timestamp": "2026-01-02T03:04:05.678Z"}
        moment = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
        delivered = {"event": "delivered", **base, **when}
        undelivered = {"event": "undelivered", **base, **when, "error_code": "30003"}
        reply = {
            "event": "reply", **base, **when, "provider_message_id": "SM2", "from": "+15559876543",
            "to": "+15551234567", "channel": "sms", "body": "¿Sí?", "subject": "",
        }  # fmt: skip
        known = Receipt(
            event_key="SM1:delivered", state="delivered", message_id=MESSAGE_ID,
            provider_message_id="SM1", attempt=2, provider_time=moment,
        )  # fmt: skip
        self.genuine = [
            WebhookSample(_signed([delivered]), WebhookContent(receipts=[known])),
            WebhookSample(
                _signed([undelivered, reply]),
                WebhookContent(
                    receipts=[
                        replace(
                            known, event_key="SM1:undelivered", state="undelivered", error_code="30003"
                        )
                    ],
                    inbound=[
                        Inbound(
                            event_key="SM2:reply", channel="sms", sender="+15559876543",
                            recipient="+15551234567", body="¿Sí?", provider_message_id="SM2",
                            provider_time=moment,
                        )
                    ],
                ),
            ),
        ]  # fmt: skip
        self.malformed = {
            "body is not a JSON array": _signed({}),
            "[1].attempt": _signed([delivered, delivered | {"attempt": "2"}]),
            "[0].event": _signed([delivered | {"event": 5}]),
            "[0].from": _signed([reply | {"from": ""}]),
        }

    def redelivered(self, request: WebhookRequest) -> WebhookRequest:
        return _signed(orjson.loads(request.body), age=60)

    def signed_by_a_stranger(self, request: WebhookRequest) -> WebhookRequest:
        return _signed(orjson.loads(request.body), secret="a-strangers-secret")


class SimulatorAdapter(ProviderAdapter):
    channel = "sms"
    secrets = (SECRET,)
    retry_after = 1.0
    asks_memory = True
    # Its server error is a refusal it is sure of; connections it has none.
    differing: ClassVar[Mapping[Behaviour, type[Outcome] | None]] = {
        Behaviour.SERVER_ERROR: Retryable,
        Behaviour.RESET: None,
        Behaviour.REFUSE_CONNECTION: None,
        Behaviour.GARBAGE: None,
        Behaviour.SLOW_BODY: None,
    }
    unseen = frozenset({Behaviour.RATE_LIMIT, Behaviour.SERVER_ERROR, Behaviour.REJECT})

    def __init__(self, path: Path) -> None:
        self.webhooks = SimulatorWebhooks()
        self.provider: SimulatorProvider = SimulatorProvider(SimulatorConfig(path, SECRET, NOWHERE))
        self._store = SimulatorStore(path)
        self._ids: list[str] = []

    def message(self, number: int) -> OutboundMessage:
        message = text_message(
            number, channel="sms", sender="+15551234567", recipient=f"+1555987{number:04d}"
        )
        self._ids.append(message.id)
        return message

    async def play(self, behaviour: Behaviour) -> None:
        await self.provider.set_profile("", PROFILES[behaviour])

    def requests(self) -> Sequence[object]:
        return [
            (item.message_id, item.attempt, item.channel, item.sender, item.recipient, item.body_sha256)
            for item in self._store.remembered(self._ids)
        ]

    def expected_request(self, message: OutboundMessage) -> object:
        digest = hashlib.sha256(message.body.encode()).hexdigest()
        return (message.id, 1, "sms", "+15551234567", message.recipient, digest)

    def accepted_id(self, message: OutboundMessage) -> str:
        (item,) = self._store.remembered([message.id])
        return item.provider_message_id


def _signed(events: object, *, secret: str = SECRET, age: int = 0) -> WebhookRequest:
    body, timestamp = orjson.dumps(events), str(int(time.time()) - age)
    headers = {
        TIMESTAMP_HEADER.lower(): timestamp,
        SIGNATURE_HEADER.lower(): sign(secret, timestamp, body),
        "content-type": "application/json",
    }
    return WebhookRequest("POST", NOWHERE, headers, body)


class TestSimulatorContract(ProviderContract):
    @pytest.fixture
    async def adapter(self, tmp_path: Path) -> AsyncIterator[ProviderAdapter]:
        adapter = SimulatorAdapter(tmp_path / "simulator.db")
        await adapter.provider.start()
        yield adapter
        await adapter.provider.close()
