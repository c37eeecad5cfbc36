"""Servers that know no callers stay on loopback, and say so; the others may go anywhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from services.kit.config import Settings, WrongSettingError, read_settings
from services.kit.exposure import check_exposure, is_loopback
from services.kit.server import RpcServer

SECRET = "secret-of-32-characters-or-more-than-that"


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("localhost", True),
        ("0.0.0.0", False), ("::", False), ("", False), ("192.0.2.1", False), ("a.example", False),  # noqa: S104
    ],
)  # fmt: skip
def test_what_is_loopback(host: str, local: bool) -> None:
    assert is_loopback(host) is local
    settings = Settings.model_validate({"host": host})
    if local:
        check_exposure(settings)
        return
    with pytest.raises(WrongSettingError, match=r"POSTHOUSE_HOST: .* can be reached from other machines"):
        check_exposure(settings)
    check_exposure(settings.model_copy(update={"jwt_issuer": "https://issuer.example"}))


async def test_a_server_that_would_check_nobody_is_not_built() -> None:
    with pytest.raises(ValueError, match="nothing to do it"):
        RpcServer(Settings.model_validate({"api_key_secret": SECRET}), 0, "posthouse.v1.MessageService")


@pytest.mark.parametrize("process", ["message", "conversation", "dispatch", "gateway", "up"])
def test_every_process_refuses_with_one_line(process: str, tmp_path: Path) -> None:
    environment = {**os.environ, "POSTHOUSE_HOST": "0.0.0.0", "POSTHOUSE_SIMULATOR_SECRET": "s"}  # noqa: S104
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-P", "-m", "cli.main", process],
        env=environment, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 78
    (line,) = done.stderr.splitlines()
    assert line.startswith("posthouse: wrong setting POSTHOUSE_HOST: 0.0.0.0 can be reached")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"API_KEY_SECRET": "short"}, "POSTHOUSE_API_KEY_SECRET"),
        ({"JWT_ISSUER": "i"}, "POSTHOUSE_JWT_AUDIENCE: must be set"),
        (
            {"JWT_ISSUER": "i", "JWT_AUDIENCE": "a"},
            "POSTHOUSE_JWT_KEYS: must be set: or POSTHOUSE_JWT_SECRET",
        ),
        ({"JWT_SECRET": SECRET}, "POSTHOUSE_JWT_ISSUER: must be set"),
        ({"TLS_CERT": "c"}, "POSTHOUSE_TLS_KEY: must be set"),
        ({"TLS_CLIENT_CERTIFICATES": "true"}, "POSTHOUSE_TLS_CA: must be set"),
        ({"OPEN_ENDPOINTS": "health everything"}, "POSTHOUSE_OPEN_ENDPOINTS: everything is none of"),
    ],
)
def test_settings_that_do_not_fit_are_named(
    environment: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"POSTHOUSE_{name}", value)
    with pytest.raises(WrongSettingError, match=f"^{said}"):
        read_settings()


def test_keys_need_the_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["keys", "create", "shop", "--scope", "send"])
    assert done.exit_code == 1
    assert "POSTHOUSE_API_KEY_SECRET is not set" in done.output
