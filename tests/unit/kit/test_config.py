"""Settings: defaults that work, names the world knows, and wrong values that stop the start."""

from pathlib import Path

import pytest

from services.kit.config import Settings, load_settings


def test_the_defaults_need_nothing() -> None:
    settings = load_settings()
    assert settings.http_port == 8000
    assert settings.message_target == "127.0.0.1:50051"
    assert settings.conversation_target == "127.0.0.1:50052"
    assert settings.dispatch_target == "127.0.0.1:50053"
    assert settings.routing == {"sms": ["simulator"], "mms": ["simulator"], "email": ["simulator"]}


def test_our_settings_carry_the_prefix_and_the_worlds_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/db")
    monkeypatch.setenv("POSTHOUSE_GRPC_PORT", "6000")
    monkeypatch.setenv("POSTHOUSE_MESSAGE_ADDRESS", "message:50051")
    monkeypatch.setenv("HTTP_PORT", "1")
    settings = load_settings()
    assert settings.database_url == "postgresql://elsewhere/db"
    assert settings.conversation_target == "127.0.0.1:6001"
    assert settings.message_target == "message:50051"
    assert settings.http_port == 8000


def test_empty_means_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTHOUSE_HTTP_PORT", "")
    assert load_settings().http_port == 8000


def test_the_env_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "env"
    file.write_text("NATS_URL=nats://elsewhere:4222\nPOSTHOUSE_HTTP_PORT=8123\nOTHERS=7\n")
    monkeypatch.setitem(Settings.model_config, "env_file", file)
    settings = load_settings()
    assert (settings.nats_url, settings.http_port) == ("nats://elsewhere:4222", 8123)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POSTHOUSE_HTTP_PORT", "70000"),
        ("POSTHOUSE_GRPC_PORT", "none"),
        ("POSTHOUSE_LOG_LEVEL", "loud"),
        ("POSTHOUSE_DISPATCH_LEASE", "0"),
        ("POSTHOUSE_STRICT_PHONE_NUMBERS", "perhaps"),
        ("POSTHOUSE_ROUTES", "sms"),
        ("POSTHOUSE_ROUTES", "sms="),
        ("POSTHOUSE_ROUTES", "=twilio"),
        ("POSTHOUSE_UNKNOWN_POLICY", "twilio=perhaps"),
        ("POSTHOUSE_SENDER_RATES", "+15551234567"),
        ("POSTHOUSE_READY_FOLLOWS", "postgresql redis"),
        ("POSTHOUSE_READY_FOLLOWS", "nats outbox"),
        ("POSTHOUSE_HTTP_MAX_HEADER_BYTES", "1000000"),
    ],
)
def test_a_wrong_value_stops_the_start_with_one_line_that_names_it(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stopped:
        load_settings()
    line = str(stopped.value.code)
    assert line.startswith("posthouse: wrong setting ")
    assert name in line
    assert "\n" not in line


def test_each_wrong_value_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTHOUSE_HTTP_PORT", "0")
    monkeypatch.setenv("POSTHOUSE_LOG_FORMAT", "xml")
    with pytest.raises(SystemExit) as stopped:
        load_settings()
    assert len(str(stopped.value.code).splitlines()) == 2


def test_routes_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTHOUSE_ROUTES", "sms=twilio,simulator email=sendgrid")
    assert load_settings().routing == {"sms": ["twilio", "simulator"], "email": ["sendgrid"]}


def test_what_readiness_follows_is_a_list_with_spaces_or_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().followed == {"postgresql", "nats", "outbox"}
    monkeypatch.setenv("POSTHOUSE_READY_FOLLOWS", "postgresql, nats")
    assert load_settings().followed == {"postgresql", "nats"}


def test_secrets_do_not_print(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTHOUSE_SIMULATOR_SECRET", "hush-hush")
    assert "hush-hush" not in repr(load_settings())
