"""The registry: names to providers, and clear words for what is wrong."""

from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from services.kit.config import Settings
from services.providers import registry
from services.providers.base import (
    Accepted,
    OutboundMessage,
    Outcome,
    Provider,
    WebhookContent,
    WebhookRequest,
)
from services.providers.registry import build_providers, check_routing
from services.providers.simulator import SimulatorProvider
from services.providers.simulator_profile import SimulatorProfile


class Pigeon(Provider):
    """A provider from elsewhere, for a channel of its own."""

    name = "pigeon"
    channels = frozenset({"air"})

    async def send(self, messages: Sequence[OutboundMessage]) -> list[Outcome]:
        return [Accepted(message.id) for message in messages]

    def verify(self, request: WebhookRequest) -> bool:
        return bool(request.body)

    def parse(self, request: WebhookRequest) -> WebhookContent:
        return WebhookContent(answer_body=request.body)


def make_pigeon(_settings: Settings) -> Provider:
    return Pigeon()


def settings(**values: object) -> Settings:
    return Settings.model_validate({"simulator_secret": "s", "simulator_path": Path("simulator.db")} | values)


def test_the_simulator_is_made_from_settings() -> None:
    profile = '[{"rejected_rate": 0.5}, {"channel": "email", "seed": 3}]'
    made = build_providers(
        settings(simulator_profile=profile, webhook_base_url="https://example.com/"),
        ["simulator", "simulator"],
    )
    provider = made["simulator"]
    assert isinstance(provider, SimulatorProvider)
    assert provider.channels == {"sms", "mms", "email", "voice"}
    assert provider._config.webhook_url == "https://example.com/api/v1/webhooks/simulator"
    assert provider._config.profiles["sms"] == SimulatorProfile(rejected_rate=0.5, reply_rate=1.0)
    assert provider._config.profiles["email"] == SimulatorProfile(seed=3, reply_rate=1.0)
    assert provider._config.profiles["voice"] == SimulatorProfile(rejected_rate=0.5)
    assert provider._config.secret not in repr(provider._config).split("'")


@pytest.mark.parametrize("secret", [None, ""])
def test_a_simulator_without_a_secret_is_refused(secret: str | None) -> None:
    with pytest.raises(ValueError, match="POSTHOUSE_SIMULATOR_SECRET"):
        build_providers(settings(simulator_secret=secret), ["simulator"])


@pytest.mark.parametrize(
    ("profile", "text"),
    [
        ("{", "is not JSON"),
        ("3", "must be a JSON object"),
        ('{"speed": 1}', "speed: is not a field"),
        ('{"channel": "fax"}', "channel: must be one of email, mms, sms, voice"),
        ('{"rejected_rate": 1.5}', "rejected_rate: must be a number from 0 to 1"),
        ('{"rejected_rate": "1"}', "rejected_rate: must be a number from 0 to 1"),
        ('{"rejected_rate": 0.6, "timeout_rate": 0.6}', "must not exceed 1 together"),
        ('{"latency_ms": -1}', "latency_ms: must be from 0"),
        ('{"latency_ms": 1.5}', "latency_ms: must be a whole number"),
        ('{"seed": 9223372036854775808}', "seed: must fit into 64 bits"),
        ('{"reply_text": "a\\u0000"}', "reply_text: must be a text"),
    ],
)
def test_a_wrong_profile_names_its_field(profile: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"POSTHOUSE_SIMULATOR_PROFILE: .*{text}"):
        build_providers(settings(simulator_profile=profile), ["simulator"])


def test_an_unknown_provider_names_the_setting() -> None:
    with pytest.raises(
        ValueError, match=r"POSTHOUSE_ROUTES: there is no provider 'pigeon'; known are .*simulator"
    ):
        build_providers(settings(), ["pigeon"])


def test_another_package_offers_a_provider_for_a_new_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(*, group: str, name: str) -> list[EntryPoint]:
        assert (group, name) == ("posthouse.providers", "pigeon")
        return [EntryPoint("pigeon", f"{__name__}:make_pigeon", group)]

    monkeypatch.setattr(registry, "entry_points", installed)
    providers = build_providers(settings(), ["simulator", "pigeon"])
    assert isinstance(providers["pigeon"], Provider)
    check_routing({"sms": ["simulator"], "air": ["pigeon"]}, providers)
    with pytest.raises(ValueError, match="POSTHOUSE_ROUTES: provider 'simulator' does not carry 'air'"):
        check_routing({"air": ["pigeon", "simulator"]}, providers)
