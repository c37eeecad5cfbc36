"""Look for known vulnerabilities of the locked requirements: `make audit`."""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2

_ROOT: Final = Path(__file__).parents[1]
_BIN: Final = Path(sys.executable).parent
_OSV: Final = "https://api.osv.dev/v1/querybatch"
_PIP_AUDIT: Final = "pip-audit==2.10.1"
_PIN: Final = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;\\]+)", re.MULTILINE)
# Requests under way at once: an index is everybody's.
_AT_ONCE: Final = 4

VULNERABLE: Final = 1
UNANSWERED: Final = 2


@dataclass(frozen=True)
class Finding:
    """What is known of one requirement: the ids of its vulnerabilities, or why nobody could say."""

    name: str
    version: str
    vulnerabilities: tuple[str, ...] = ()
    unanswered: str = ""

    def __str__(self) -> str:
        """Say it in one line."""
        what = f"{self.name} {self.version}".rstrip()
        if self.unanswered:
            return f"not known: {what}: {self.unanswered}"
        return f"VULNERABLE: {what}: {', '.join(self.vulnerabilities)}"


def pins(lock: str) -> list[tuple[str, str]]:
    """Return name and version of every requirement of a lock file's text, whatever platform it is for."""
    return _PIN.findall(lock)


def ask_index(client: httpx2.Client, name: str, version: str) -> Finding:
    """Ask an index about a requirement: the page of its version, or else that of the newest, if it is that.

    Indexes speak PyPI's JSON API. Mirrors may lack the pages of versions.
    """
    try:
        answer = client.get(f"/pypi/{name}/{version}/json")
        if answer.status_code == httpx2.codes.NOT_FOUND:
            answer = client.get(f"/pypi/{name}/json")
        answer.raise_for_status()
        page = answer.json()
        told = page["info"]["version"]
        if told != version:
            return Finding(name, version, unanswered=f"the index tells only of {told}")
        known = [each["id"] for each in page["vulnerabilities"] if not each.get("withdrawn")]
    except (httpx2.HTTPError, ValueError, LookupError, TypeError) as error:
        return Finding(name, version, unanswered=f"{type(error).__name__}: {error}".splitlines()[0])
    return Finding(name, version, tuple(known))


def npm_findings(report: str) -> list[Finding]:
    """Read what `npm audit --json` has printed."""
    try:
        content: dict[str, Any] = json.loads(report)
        if "vulnerabilities" not in content:
            reason = content.get("message") or content["error"]["summary"]
            return [Finding("npm packages", "", unanswered=str(reason).splitlines()[0])]
        return [
            Finding(name, each["range"], (each["severity"],))
            for name, each in content["vulnerabilities"].items()
        ]
    except (ValueError, LookupError, TypeError, AttributeError):
        return [Finding("npm packages", "", unanswered="npm printed no report")]


def exit_code(findings: Iterable[Finding], *, tolerant: bool) -> int:
    """Return 1 if anything is vulnerable, else 2 if anything is not known and that counts, else 0."""
    all_of_them = list(findings)
    if any(finding.vulnerabilities for finding in all_of_them):
        return VULNERABLE
    return UNANSWERED if not tolerant and any(finding.unanswered for finding in all_of_them) else 0


def _osv_answers() -> bool:
    try:
        return httpx2.post(_OSV, json={"queries": []}, timeout=10).is_success
    except httpx2.HTTPError:
        return False


def _pip_audit(lock: Path) -> int:
    options = ["--strict", "--disable-pip", "--require-hashes", "--vulnerability-service", "osv"]
    command: list[str | Path] = [_BIN / "uv", "tool", "run", _PIP_AUDIT, *options, "-r", lock]
    return subprocess.run(command, check=False).returncode  # noqa: S603 - our own


def _by_index(lock: Path, index: str) -> list[Finding]:
    wanted = pins(lock.read_text())
    with (
        httpx2.Client(base_url=index, timeout=30, follow_redirects=True) as client,
        ThreadPoolExecutor(_AT_ONCE) as threads,
    ):
        return list(threads.map(lambda pin: ask_index(client, *pin), wanted))


def _npm(folder: Path) -> list[Finding]:
    result = subprocess.run(  # noqa: S603 - our own
        [_BIN / "npm", "audit", "--json"],
        check=False, capture_output=True, text=True, cwd=folder,
        env={**os.environ, "PATH": f"{_BIN}{os.pathsep}{os.environ.get('PATH', '')}"},
    )  # fmt: skip
    return npm_findings(result.stdout)


def _print(what: str, asked: int, findings: Sequence[Finding]) -> None:
    told = [finding for finding in findings if finding.vulnerabilities or finding.unanswered]
    unanswered = sum(bool(finding.unanswered) for finding in told)
    for finding in told:
        print(finding)
    print(f"{what}: {len(told) - unanswered} vulnerable, {unanswered} without an answer, of {asked}")


def main(
    arguments: Sequence[str] | None = None,
    *,
    osv_answers: Callable[[], bool] = _osv_answers,
    pip_audit: Callable[[Path], int] = _pip_audit,
) -> int:
    """Ask osv.dev or, where that does not answer, the index; and npm's registry. Return the exit code."""
    parser = argparse.ArgumentParser(prog="make audit", description=__doc__)
    parser.add_argument("lock", nargs="?", type=Path, default=_ROOT / "requirements.lock")
    parser.add_argument("--service", choices=["auto", "osv", "index"], default="auto", help="whom to ask")
    parser.add_argument("--index", help="URL of an index with PyPI's JSON API, to be asked if need be")
    parser.add_argument(
        "--npm", type=Path, default=_ROOT / "clients" / "typescript", help="a folder with a lock"
    )
    parser.add_argument("--no-npm", action="store_true", help="leave npm's packages out")
    parser.add_argument("--tolerant", action="store_true", help="pass what nobody could be asked about")
    chosen = parser.parse_args(arguments)
    if chosen.service == "index" and not chosen.index:
        parser.error("--service index needs --index")
    codes = []
    if chosen.service == "osv" or (chosen.service == "auto" and osv_answers()):
        codes.append(VULNERABLE if pip_audit(chosen.lock) else 0)
    elif not chosen.index:
        print(f"{chosen.lock.name}: osv.dev does not answer, and there is no other to ask (--index)")
        codes.append(0 if chosen.tolerant else UNANSWERED)
    else:
        findings = _by_index(chosen.lock, chosen.index)
        _print(f"{chosen.lock.name} by {chosen.index}", len(findings), findings)
        codes.append(exit_code(findings, tolerant=chosen.tolerant))
    if not chosen.no_npm:
        findings = _npm(chosen.npm)
        # The first is the folder itself.
        locked = len(json.loads((chosen.npm / "package-lock.json").read_text())["packages"]) - 1
        _print("npm packages", locked, findings)
        codes.append(exit_code(findings, tolerant=chosen.tolerant))
    return VULNERABLE if VULNERABLE in codes else max(codes)


if __name__ == "__main__":
    sys.exit(main())
