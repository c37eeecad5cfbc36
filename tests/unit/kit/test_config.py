"""Settings: defaults that work, names the world knows, and wrong values that stop the start."""

from pathlib import Path

import pytest

from services.kit.config import Settings, WrongSettingError, load_settings, read_settings
from services.kit.keyring import new_key


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


def test_a_setting_may_be_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = f"{new_key('new')}\n{new_key('old')}\n"
    files = {
        "POSTHOUSE_ENCRYPTION_KEYS": keys,
        "POSTHOUSE_API_KEY_SECRET": "s" * 32,
        "DATABASE_URL": "postgresql://elsewhere/db\n",
        "NATS_URL": "nats://file:4222",
        "POSTHOUSE_HTTP_PORT": "8123",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    dotenv = tmp_path / "env"
    dotenv.write_text("".join(f"{name}_FILE={tmp_path / name}\n" for name in list(files)[2:]))
    monkeypatch.setitem(Settings.model_config, "env_file", dotenv)
    for name in list(files)[:2]:
        monkeypatch.setenv(f"{name}_FILE", str(tmp_path / name))
    monkeypatch.setenv("NATS_URL", "nats://itself:4222")
    settings = load_settings()
    assert settings.keyring.key_ids == ("new", "old")
    assert settings.api_key_secret is not None
    assert settings.api_key_secret.get_secret_value() == "s" * 32
    assert (settings.database_url, settings.http_port) == ("postgresql://elsewhere/db", 8123)
    assert settings.nats_url == "nats://itself:4222"


def test_a_file_that_cannot_be_read_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTHOUSE_ENCRYPTION_KEYS_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(WrongSettingError, match=r"^POSTHOUSE_ENCRYPTION_KEYS_FILE: cannot be read: No such"):
        read_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POSTHOUSE_HTTP_PORT", "70000"),
        ("POSTHOUSE_GRPC_PORT", "none"),
        ("POSTHOUSE_LOG_LEVEL", "loud"),
        ("POSTHOUSE_DISPATCH_LEASE", "0"),
        ("POSTHOUSE_STRICT_PHONE_NUMBERS", "perhaps"),
        ("POSTHOUSE_ROUTES", "sms"),
        ("POSTHOUSE_FAULT_POINTS", "message.nowhere"),
        ("POSTHOUSE_FAULT_POINTS", "message.after_commit@often"),
        ("POSTHOUSE_ROUTES", "sms="),
        ("POSTHOUSE_ROUTES", "=twilio"),
        ("POSTHOUSE_UNKNOWN_POLICY", "twilio=perhaps"),
        ("POSTHOUSE_SENDER_RATES", "+15551234567"),
        ("POSTHOUSE_READY_FOLLOWS", "postgresql redis"),
        ("POSTHOUSE_READY_FOLLOWS", "nats outbox"),
        ("POSTHOUSE_HTTP_MAX_HEADER_BYTES", "1000000"),
        ("DATABASE_URL", "nonsense"),
        ("DATABASE_URL", "mysql://127.0.0.1/posthouse"),
        ("DATABASE_REPLICA_URL", "postgresql+asyncpg://127.0.0.1/posthouse"),
        ("NATS_URL", "nats://127.0.0.1:port"),
        ("NATS_URL", "http://127.0.0.1:4222"),
        ("NATS_URL", "nats://a:4222,,nats://b:4222"),
        ("NATS_URL", "nats://a:4222,ws://b:80"),
    ],
)
def test_a_wrong_value_stops_the_start_with_one_line_that_names_it(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(WrongSettingError, match=rf"^{name}: [^\n]+$"):
        read_settings()


@pytest.mark.parametrize(
    "value",
    ["nats://a", "nats", "a:4222", "tls://user:pass@a:4222,nats://[::1]:4222", "nats://token@127.0.0.1:1"],
)
def test_addresses_of_nats(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATS_URL", value)
    assert read_settings().nats_url == value


def test_each_wrong_value_has_its_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POSTHOUSE_HTTP_PORT", "0")
    monkeypatch.setenv("POSTHOUSE_LOG_FORMAT", "xml")
    with pytest.raises(SystemExit, match="78"):
        load_settings()
    http_port, log_format = capsys.readouterr().err.splitlines()
    assert http_port.startswith("posthouse: wrong setting POSTHOUSE_HTTP_PORT: ")
    assert log_format.startswith("posthouse: wrong setting POSTHOUSE_LOG_FORMAT: ")


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
