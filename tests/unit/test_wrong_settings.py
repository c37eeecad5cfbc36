"""A process that cannot start with its settings says so in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"POSTHOUSE_HTTP_PORT": "none"}, "POSTHOUSE_HTTP_PORT: Input should be a valid integer"),
        ({"POSTHOUSE_ROUTES": "sms"}, "POSTHOUSE_ROUTES: 'sms' is not of the form"),
        ({"POSTHOUSE_ROUTES": "sms=nobody"}, "POSTHOUSE_ROUTES: there is no provider 'nobody'"),
        ({"POSTHOUSE_SIMULATOR_SECRET": ""}, "POSTHOUSE_SIMULATOR_SECRET: must be set"),
    ],
)
def test_a_wrong_setting_ends_the_start_with_one_line(
    environment: dict[str, str], said: str, tmp_path: Path
) -> None:
    process = subprocess.run(
        [sys.executable, "-P", "-m", "cli.main", "message"],
        env={**os.environ, **environment},
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 78
    (line,) = process.stderr.splitlines()
    assert line.startswith(f"posthouse: wrong setting {said}")
