"""The example of docs/providers.md runs, and keeps the contract it teaches."""

import hashlib
import hmac
import re
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import orjson
import pytest

from services.kit.config import Settings
from services.providers import registry
from services.providers.base import OutboundMessage, Outcome, Receipt, WebhookContent, WebhookRequest
from tests.unit.providers.contract.adapter import (
    Behaviour,
    ProviderAdapter,
    WebhookSample,
    WebhookSamples,
    text_message,
)
from tests.unit.providers.contract.fake_http import FakeHttpCarrier, HttpAnswer, HttpRequest
from tests.unit.providers.contract.patience import TIMEOUT
from tests.unit.providers.contract.suite import ProviderContract

GUIDE = Path(__file__).parents[3] / "docs" / "providers.md"
KEY = "key-of-the-courier"
MESSAGE_ID = "01927c3e-7b4a-7cc0-8000-3a5b8c2d1e0f"


@pytest.fixture
def courier() -> Iterator[ModuleType]:
    """The guide's file, as a module of its own."""
    (source,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    module = ModuleType("courier_of_the_guide")
    sys.modules[module.__name__] = module
    exec(compile(source, str(GUIDE), "exec"), vars(module))  # noqa: S102 - it is our own guide
    yield module
    del sys.modules[module.__name__]


class CourierWebhooks(WebhookSamples):
    signature_headers = ("x-courier-signature",)

    def __init__(self) -> None:
        self.genuine = [
            WebhookSample(
                _signed({"news": news, "reference": f"{MESSAGE_ID}:2"}),
                WebhookContent(
                    receipts=[
                        Receipt(f"{MESSAGE_ID}:2:{news}", state=state, message_id=MESSAGE_ID, attempt=2)
                    ]
                ),
            )
            for news, state in (("delivered", "delivered"), ("undelivered", "undelivered"), ("sorted", ""))
        ]
        self.malformed = {"news": _signed({"reference": f"{MESSAGE_ID}:2"}), "reference": _signed([])}

    def redelivered(self, request: WebhookRequest) -> WebhookRequest:
        return request

    def signed_by_a_stranger(self, request: WebhookRequest) -> WebhookRequest:
        return _signed(orjson.loads(request.body), key="another")


class CourierAdapter(ProviderAdapter):
    channel = "letter"
    secrets = (KEY,)
    retry_after = 3.0
    # It cannot be asked, so that nothing needs to be played to its lookup.
    asks_memory: ClassVar[bool] = True
    differing: ClassVar[Mapping[Behaviour, type[Outcome] | None]] = {}

    def __init__(self, module: Any, carrier: FakeHttpCarrier) -> None:
        self.webhooks = CourierWebhooks()
        self.provider = module.CourierProvider(module.CourierConfig(carrier.url, KEY, timeout=TIMEOUT))
        self._carrier = carrier

    def message(self, number: int) -> OutboundMessage:
        return text_message(number, channel="letter", sender="A", recipient=f"{number} Main Street")

    async def play(self, behaviour: Behaviour) -> None:
        await self._carrier.play(behaviour)

    def requests(self) -> Sequence[object]:
        return [
            (request.method, request.target, request.headers["authorization"], orjson.loads(request.body))
            for request in self._carrier.requests
        ]

    def expected_request(self, message: OutboundMessage) -> object:
        letter = {"to": message.recipient, "text": message.body, "reference": f"{message.id}:1"}
        return ("POST", "/letters", f"Bearer {KEY}", letter)

    def accepted_id(self, message: OutboundMessage) -> str:
        return f"L-{message.id}"


def _accept(request: HttpRequest) -> HttpAnswer:
    reference = orjson.loads(request.body)["reference"]
    return HttpAnswer(201, orjson.dumps({"id": f"L-{reference.rpartition(':')[0]}"}))


def _signed(news: object, *, key: str = KEY) -> WebhookRequest:
    body = orjson.dumps(news)
    signature = hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
    url = "https://hooks.example.com/api/v1/webhooks/courier"
    return WebhookRequest("POST", url, {"x-courier-signature": signature}, body)


class TestCourierContract(ProviderContract):
    @pytest.fixture
    async def adapter(self, courier: ModuleType) -> AsyncIterator[ProviderAdapter]:
        answers = {
            Behaviour.ACCEPT: _accept,
            Behaviour.RATE_LIMIT: lambda _: HttpAnswer(429, headers={"Retry-After": "3"}),
            Behaviour.SERVER_ERROR: lambda _: HttpAnswer(503),
            Behaviour.REJECT: lambda _: HttpAnswer(400),
            Behaviour.GARBAGE: lambda _: HttpAnswer(201, b"\xff<html>"),
        }
        async with FakeHttpCarrier(answers) as carrier:
            adapter = CourierAdapter(courier, carrier)
            await adapter.provider.start()
            yield adapter
            await adapter.provider.close()


def test_without_a_key_nothing_is_genuine(courier: ModuleType) -> None:
    provider = courier.CourierProvider(courier.CourierConfig("https://courier.example.com", ""))
    assert not provider.verify(_signed({"news": "delivered", "reference": f"{MESSAGE_ID}:2"}, key=""))


def test_the_guides_entry_point_makes_it_known(courier: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    group, target = re.findall(
        r'\[project\.entry-points\."(.*)"\]\s+courier = "our_courier\.provider:(.*)"', GUIDE.read_text()
    )[0]

    def installed(*, group: str, name: str) -> list[EntryPoint]:
        known = (group, name) == (registry.ENTRY_POINTS, "courier")
        return [EntryPoint(name, f"{courier.__name__}:{target}", group)] if known else []

    assert group == registry.ENTRY_POINTS
    monkeypatch.setattr(registry, "entry_points", installed)
    given = Settings.model_validate({"simulator_secret": "s", "routes": "sms=simulator letter=courier"})
    providers = registry.build_providers(given, registry.enabled_providers(given))
    registry.check_routing(given.routing, providers)
    assert providers["courier"].name == "courier"
