"""A house of its own for each test, impatient enough for tests."""

from collections.abc import AsyncIterator

import pytest

from services.kit.config import Settings
from services.ledger import relay
from services.providers import registry

from .house import House, running_house
from .scripted import ScriptedProvider


@pytest.fixture
async def provider() -> ScriptedProvider:
    return ScriptedProvider()


@pytest.fixture
def impatient(settings: Settings, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings that route every channel to the scripted provider and wait for nothing long."""
    monkeypatch.setattr(relay, "_SWEEP_INTERVAL", 0.05)
    monkeypatch.setattr(registry, "FACTORIES", {"scripted": lambda _: provider})
    return settings.model_copy(
        update={
            "routes": "sms=scripted mms=scripted email=scripted",
            "unknown_policy": "scripted=resend second=resend",
            "dispatch_retry_base": 0.05,
            "dispatch_retry_max": 0.2,
            "dispatch_max_attempts": 3,
            "outbox_republish_after": 1.0,
            "shutdown_grace": 2.0,
        }
    )


@pytest.fixture
async def house(
    impatient: Settings, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[House]:
    async with running_house(impatient, provider, monkeypatch) as house:
        yield house
