"""The audit of the locked requirements: what it asks an index, and what it makes of the answers."""

import json
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tools.audit import UNANSWERED, VULNERABLE, Finding, exit_code, main, npm_findings, pins

_BAD = {"id": "PYSEC-2026-1", "withdrawn": None}
_WITHDRAWN = {"id": "PYSEC-2026-2", "withdrawn": "2026-01-01T00:00:00Z"}


def _page(version: str, *vulnerabilities: dict[str, Any]) -> dict[str, Any]:
    return {"info": {"version": version}, "vulnerabilities": list(vulnerabilities)}


_PAGES = {
    "/pypi/sound/1.0/json": _page("1.0"),
    "/pypi/bad/1.0/json": _page("1.0", _BAD),
    "/pypi/bad/json": _page("2.0"),
    "/pypi/newest/json": _page("3.0", _WITHDRAWN),
    "/pypi/newest-bad/json": _page("3.0", _BAD),
    "/pypi/older/json": _page("3.0"),
    "/pypi/odd/1.0/json": {"info": None},
}


@pytest.fixture(scope="module")
def index() -> Iterator[str]:
    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = _PAGES.get(self.path)
            self.send_response(HTTPStatus.OK if page else HTTPStatus.NOT_FOUND)
            self.end_headers()
            self.wfile.write(json.dumps(page).encode())

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def _audit(index: str, folder: Path, *requirements: str, options: tuple[str, ...] = ()) -> int:
    lock = folder / "requirements.lock"
    lock.write_text("".join(f"{each} \\\n    --hash=sha256:00\n    # via x\n" for each in requirements))
    return main([str(lock), "--index", index, "--no-npm", *options], osv_answers=lambda: False)


@pytest.mark.parametrize(
    ("requirement", "code", "line"),
    [
        ("sound==1.0", 0, ""),
        ("bad==1.0", VULNERABLE, "VULNERABLE: bad 1.0: PYSEC-2026-1"),
        ("bad[extra]==1.0 ; sys_platform == 'win32'", VULNERABLE, "VULNERABLE: bad 1.0: PYSEC-2026-1"),
        ("bad==2.0", 0, ""),
        ("newest==3.0", 0, ""),
        ("newest-bad==3.0", VULNERABLE, "VULNERABLE: newest-bad 3.0: PYSEC-2026-1"),
        ("older==2.0", UNANSWERED, "not known: older 2.0: the index tells only of 3.0"),
        ("absent==1.0", UNANSWERED, "not known: absent 1.0: HTTPStatusError"),
        ("odd==1.0", UNANSWERED, "not known: odd 1.0: TypeError"),
    ],
)
def test_an_index_is_asked_about_the_locked_version(
    index: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], requirement: str, code: int, line: str
) -> None:
    assert _audit(index, tmp_path, requirement) == code
    *told, summary = capsys.readouterr().out.splitlines()
    assert [each[: len(line)] for each in told] == ([line] if line else [])
    counts = f"{int(code == VULNERABLE)} vulnerable, {int(code == UNANSWERED)} without an answer, of 1"
    assert summary == f"requirements.lock by {index}: {counts}"


def test_what_is_vulnerable_outweighs_what_is_not_known(index: str, tmp_path: Path) -> None:
    assert _audit(index, tmp_path, "older==2.0", "bad==1.0", "sound==1.0") == VULNERABLE
    assert _audit(index, tmp_path, "bad==1.0", options=("--tolerant",)) == VULNERABLE
    assert _audit(index, tmp_path, "older==2.0", options=("--tolerant",)) == 0


def test_an_index_that_is_away_leaves_everything_unknown(tmp_path: Path) -> None:
    assert _audit("http://127.0.0.1:1", tmp_path, "sound==1.0") == UNANSWERED


@pytest.mark.parametrize(("returned", "code"), [(0, 0), (1, VULNERABLE)])
def test_osv_is_asked_where_it_answers(tmp_path: Path, returned: int, code: int) -> None:
    lock = tmp_path / "requirements.lock"
    asked: list[Path] = []

    def pip_audit(lock: Path) -> int:
        asked.append(lock)
        return returned

    assert main([str(lock), "--no-npm"], osv_answers=lambda: True, pip_audit=pip_audit) == code
    assert asked == [lock]


def test_every_requirement_of_the_lock_is_asked_about() -> None:
    text = (Path(__file__).parents[2] / "requirements.lock").read_text()
    assert len(pins(text)) == sum("==" in line for line in text.splitlines() if line[:1].isalpha())


@pytest.mark.parametrize(
    ("report", "code", "line"),
    [
        ('{"vulnerabilities": {}}', 0, None),
        (
            '{"vulnerabilities": {"x": {"range": "<2", "severity": "high"}}}',
            VULNERABLE,
            "VULNERABLE: x <2: high",
        ),
        (
            '{"message": "405 Method Not Allowed", "error": {}}',
            UNANSWERED,
            "not known: npm packages: 405 Method",
        ),
        ('{"error": {"summary": "no network"}}', UNANSWERED, "not known: npm packages: no network"),
        ("", UNANSWERED, "not known: npm packages: npm printed no report"),
    ],
)
def test_npm_says_what_is_vulnerable_or_that_it_could_not(report: str, code: int, line: str | None) -> None:
    findings = npm_findings(report)
    assert exit_code(findings, tolerant=False) == code
    assert [str(finding)[: len(line or "")] for finding in findings] == ([line] if line else [])
    assert exit_code([Finding("x", "1")], tolerant=False) == 0


@pytest.mark.parametrize(("options", "code"), [((), UNANSWERED), (("--tolerant",), 0)])
def test_without_an_index_nothing_is_known_where_osv_is_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], code: int
) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("sound==1.0")
    assert main([str(lock), "--no-npm", *options], osv_answers=lambda: False) == code
    assert "osv.dev does not answer, and there is no other to ask (--index)" in capsys.readouterr().out


def test_who_asks_an_index_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--service", "index"])
    assert "--service index needs --index" in capsys.readouterr().err
