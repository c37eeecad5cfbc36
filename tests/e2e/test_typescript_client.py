"""The TypeScript client: generated from the running stack's document, type-checked, built, and used."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.stack import E2eStack

_CLIENT = Path(__file__).parents[2] / "clients" / "typescript"
# Node and npm of the locked requirements, whatever the machine has.
_BIN = Path(sys.executable).parent
_FAULTS = Path(__file__).with_name("typescript_faults.mjs")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        not (_CLIENT / "node_modules").is_dir(),
        reason="its packages are missing: `make test` installs them, where it reaches the npm registry",
    ),
]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The client in a folder of its own, with the packages of the repository's."""
    folder = tmp_path / "typescript"
    shutil.copytree(_CLIENT, folder, ignore=shutil.ignore_patterns("node_modules", "dist", "schema.ts"))
    (folder / "node_modules").symlink_to(_CLIENT / "node_modules")
    return folder


def _run(folder: Path, *command: str, url: str) -> str:
    result = subprocess.run(  # noqa: S603 - our own
        command,
        check=False, capture_output=True, text=True, cwd=folder,
        env={**os.environ, "PATH": f"{_BIN}{os.pathsep}{os.environ['PATH']}", "POSTHOUSE_URL": url},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_it_is_generated_checked_built_and_used(stack: E2eStack, copy: Path) -> None:
    _run(copy, "npm", "run", "generate", url=stack.url)
    _run(copy, "npm", "run", "build", url=stack.url)
    example = ["dist/examples/send.js", stack.url, "+15551234567", "+15559870201", "Hello"]
    lines = _run(copy, "node", *example, url=stack.url).splitlines()
    assert {"accepted", "sending", "sent", "delivered"} <= {line.split()[0] for line in lines}
    assert "delivered by simulator" in lines
    assert lines[-3:] == ["202 400", "400 INVALID_FIELD: to", "1 conversation"]
    _run(copy, "node", str(_FAULTS), "dist/src/index.js", url=stack.url)
    wrong = (copy / "examples" / "send.ts").read_text().replace('body: "One"', 'text: "One"')
    (copy / "examples" / "send.ts").write_text(wrong)
    with pytest.raises(AssertionError, match="'text' does not exist"):
        _run(copy, "npm", "run", "build", url=stack.url)
