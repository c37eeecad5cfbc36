"""A dump that is taken while messages flow is restored whole, and this version runs on it."""

import os
import subprocess
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from cli.embedded.postgres import _programs as programs
from tests.e2e.stack import PROGRAM, E2eStack, eventually

pytestmark = pytest.mark.integration

_SCRIPTS = Path(__file__).parents[2] / "deploy" / "postgres"
_CONTACT = "+15559870301"


def _run(*command: str, url: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ, "DATABASE_URL": url, "PATH": f"{programs()}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    return subprocess.run(  # noqa: S603 - our own
        command, check=False, capture_output=True, text=True, timeout=120, env=environment
    )


def _send(stack: E2eStack, first: int) -> list[str]:
    messages = [{"from": "+15551234567", "to": _CONTACT, "body": f"No. {first + n}"} for n in range(20)]
    response = stack.http.post("/api/v1/messages/batch", json={"messages": messages})
    assert response.status_code == 207, response.text
    return [result["message"]["id"] for result in response.json()["results"]]


def test_a_dump_is_restored_whole(stack: E2eStack, tmp_path: Path) -> None:
    before = _send(stack, 0)

    def delivered() -> bool:
        query = "SELECT count(*) FROM messages WHERE id = ANY(%(ids)s::uuid[]) AND state = 'delivered'"
        return stack.rows(query, {"ids": before}) == [(20,)]

    eventually(delivered, what="all are delivered")
    url = stack.state.database_url
    _send(stack, 20)
    backup = _run(str(_SCRIPTS / "backup.sh"), str(tmp_path), url=url)
    assert backup.returncode == 0, backup.stderr
    dump = Path(backup.stdout.strip())
    assert list(tmp_path.iterdir()) == [dump]
    assert dump.stat().st_mode & 0o077 == 0

    refused = _run(str(_SCRIPTS / "restore.sh"), str(dump), url=url)
    assert refused.returncode == 1
    assert "it must be empty" in refused.stderr

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE restored")
    other = urlunsplit(urlsplit(url)._replace(path="/restored"))
    try:
        restored = _run(str(_SCRIPTS / "restore.sh"), str(dump), url=other)
        assert restored.returncode == 0, restored.stderr
        assert "messages" in restored.stdout
        with psycopg.connect(other) as connection:
            found = connection.execute(
                "SELECT count(*) FROM messages WHERE id = ANY(%s::uuid[]) AND state = 'delivered'", [before]
            ).fetchone()
            assert found == (20,)
            # One moment for all tables: no message without the event that brought it where it is.
            torn = connection.execute(
                "SELECT count(*) FROM messages m WHERE NOT EXISTS (SELECT FROM message_events e "
                "WHERE e.message_id = m.id AND e.sequence = m.state_sequence)"
            ).fetchone()
            assert torn == (0,)
        migrated = _run(str(PROGRAM), "migrate", url=other)
        assert migrated.returncode == 0, migrated.stderr
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP DATABASE restored WITH (FORCE)")
