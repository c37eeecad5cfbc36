"""Commands that work on the ledger itself: what they say when it is not there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import free_ports

HINT = "no stack runs on {folder}, and DATABASE_URL is not set; --data-dir names another folder"


@pytest.mark.parametrize("given", [False, True])
def test_a_ledger_that_is_away_is_one_line(given: bool, tmp_path: Path) -> None:
    where = {"DATABASE_URL": f"postgresql://127.0.0.1:{free_ports(1)}/x"} if given else {}
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-P", "-m", "cli.main", "webhooks", "list", "--data-dir", str(tmp_path)],
        env={**os.environ, "POSTHOUSE_SIMULATOR_SECRET": "s", **where},
        cwd=tmp_path, check=False, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    hint = "" if given else f": {HINT.format(folder=tmp_path)}"
    assert done.stderr == f"posthouse: the database does not answer{hint}\n"
