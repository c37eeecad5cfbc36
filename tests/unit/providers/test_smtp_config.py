"""SMTP_URL: what it may say, and clear words for what it may not."""

import pytest

from services.kit.config import Settings, WrongSettingError
from services.providers.registry import build_providers
from services.providers.smtp import SmtpProvider
from services.providers.smtp_config import SmtpConfig, parse_smtp_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://mx.example.com", SmtpConfig("mx.example.com", 587, "starttls")),
        ("smtp://mx.example.com:25?tls=starttls", SmtpConfig("mx.example.com", 25, "starttls")),
        ("smtps://mx.example.com/", SmtpConfig("mx.example.com", 465, "tls")),
        ("smtps://mx.example.com:2465", SmtpConfig("mx.example.com", 2465, "tls")),
        ("smtp://localhost:1025?tls=none", SmtpConfig("localhost", 1025, "none")),
        ("smtp://127.8.9.1?tls=none", SmtpConfig("127.8.9.1", 25, "none")),
        ("smtp://[::1]?tls=none", SmtpConfig("::1", 25, "none")),
        ("smtp://u%40x:p%3Aw%2F%3F@mx.example.com",
         SmtpConfig("mx.example.com", 587, "starttls", "u@x", "p:w/?")),
    ],
)  # fmt: skip
def test_a_url_says(url: str, expected: SmtpConfig) -> None:
    assert parse_smtp_url(url) == expected


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("", "is not a URL"),
        ("mx.example.com:587", "is not a URL"),
        ("http://mx.example.com", "is not a URL"),
        ("smtp://", "is not a URL"),
        ("smtp://mx.example.com:99999", "is not a URL"),
        ("smtp://mx.example.com/path", "is not a URL"),
        ("smtp://[::1", "is not a URL"),
        ("smtp://secret@mx.example.com", "a user without a password"),
        ("smtp://:secret@mx.example.com", "a password without a user"),
        ("smtp://mx.example.com?tls=maybe", "a tls other than"),
        ("smtps://mx.example.com?tls=none", "smtps:// contradicts"),
        ("smtps://mx.example.com?tls=starttls", "smtps:// contradicts"),
        ("smtp://mx.example.com?tls=none&tls=starttls", "a query other than"),
        ("smtp://mx.example.com?ssl=1", "a query other than"),
        ("smtp://u:secret@mx.example.com?tls=none", "tls=none for a host beyond loopback"),
        ("smtp://u:secret@localhost.example.com?tls=none", "tls=none for a host beyond loopback"),
    ],
)
def test_a_wrong_url_is_named_and_not_repeated(url: str, text: str) -> None:
    settings = Settings.model_validate({"SMTP_URL": url, "routes": "email=smtp"})
    with pytest.raises(WrongSettingError) as raised:
        build_providers(settings, ["smtp"])
    assert str(raised.value).startswith("SMTP_URL: ")
    assert text in str(raised.value)
    assert "secret" not in str(raised.value)


def test_plain_text_can_be_allowed() -> None:
    allowed = parse_smtp_url("smtp://mx.example.com?tls=none", allow_plaintext=True)
    assert (allowed.tls, allowed.port) == ("none", 25)


def test_it_is_made_from_settings() -> None:
    settings = Settings.model_validate(
        {
            "SMTP_URL": "smtp://user:hunter2@10.0.0.1?tls=none",
            "smtp_allow_plaintext": True,
            "smtp_connections": 7,
        }
    )
    provider = build_providers(settings, ["smtp"])["smtp"]
    assert isinstance(provider, SmtpProvider)
    assert provider._config == SmtpConfig("10.0.0.1", 25, "none", "user", "hunter2", 7)
    assert "hunter2" not in repr(settings) + repr(provider._config)


def test_without_a_url_it_is_not_made() -> None:
    with pytest.raises(WrongSettingError, match="SMTP_URL: must be set when POSTHOUSE_ROUTES uses smtp"):
        build_providers(Settings.model_validate({"routes": "email=smtp"}), ["smtp"])
