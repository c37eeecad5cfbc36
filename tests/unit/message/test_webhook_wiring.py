"""Verification of webhooks can be off where nobody else can send any, and the start says so."""

from types import SimpleNamespace
from typing import Any

import pytest

from services.kit.config import Settings, WrongSettingError
from services.message import webhook_wiring
from services.message.webhook_wiring import build_ingester

_NONE: Any = None


def settings(**values: object) -> Settings:
    return Settings.model_validate({"routes": "sms=twilio", "twilio_account_sid": "AC1",
                                    "twilio_auth_token": "t", **values})  # fmt: skip


@pytest.mark.parametrize(
    ("beyond", "name"),
    [
        ({"host": "0.0.0.0"}, "POSTHOUSE_HOST"),  # noqa: S104 - refused
        ({"webhook_base_url": "https://hooks.example.com"}, "POSTHOUSE_WEBHOOK_BASE_URL"),
    ],
)
def test_verification_cannot_be_off_beyond_loopback(beyond: dict[str, str], name: str) -> None:
    with pytest.raises(WrongSettingError, match=f"POSTHOUSE_WEBHOOK_VERIFICATION: .*{name}"):
        build_ingester(settings(webhook_verification=False, **beyond), _NONE, _NONE)
    build_ingester(settings(**beyond), _NONE, _NONE)


@pytest.mark.parametrize("verified", [True, False])
def test_the_start_says_when_it_is_off(verified: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # A logger of ours: one that other tests have used keeps the output of theirs.
    said: list[str] = []
    monkeypatch.setattr(
        webhook_wiring, "_log", SimpleNamespace(warning=lambda event, **_: said.append(event))
    )
    build_ingester(settings(webhook_verification=verified), _NONE, _NONE)
    assert ("webhook_verification_off" in said) is not verified
