"""The embedded PostgreSQL and NATS outlive what may happen to them, and nothing outlives their owner."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nats
import psutil
import psycopg
import pytest

from cli.embedded.nats import EmbeddedNats
from cli.embedded.postgres import EmbeddedPostgres
from cli.embedded.spawn import StartError, is_alive, kill, spawn, start, stop
from tests.servers import temporary_directory

pytestmark = pytest.mark.integration

# A supervisor of its own process, to be killed.
_OWNER = """
import sys, time
from pathlib import Path
from cli.embedded.nats import EmbeddedNats
from cli.embedded.postgres import EmbeddedPostgres
from cli.embedded.spawn import start
folder = Path(sys.argv[1])
pids = [
    start(EmbeddedPostgres(folder / "postgres", log=folder / "postgres.log"), timeout=60).pid,
    start(EmbeddedNats(folder / "nats", log=folder / "nats.log"), timeout=60).pid,
]
print(*pids, flush=True)
time.sleep(120)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with temporary_directory() as path:
        yield path


def _postgres(folder: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(folder / "postgres", log=folder / "postgres.log")


def _insert(server: EmbeddedPostgres, value: int) -> None:
    with psycopg.connect(server.dsn("posthouse")) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (value int)")
        connection.execute("INSERT INTO kept VALUES (%s)", [value])


def _values(server: EmbeddedPostgres) -> list[int]:
    with psycopg.connect(server.dsn("posthouse")) as connection:
        return [row[0] for row in connection.execute("SELECT value FROM kept ORDER BY value")]


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _ended(pid: int) -> bool:
    try:
        return not is_alive(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return True


def test_postgres_keeps_its_data_through_kill_9(folder: Path) -> None:
    server = _postgres(folder)
    process = start(server, timeout=60)
    server.ensure_database("posthouse")
    server.ensure_database("posthouse")
    _insert(server, 1)
    process.kill()
    process.wait()
    assert (folder / "postgres/cluster/postmaster.pid").exists()
    process = start(server, timeout=60)
    _insert(server, 2)
    assert stop(server, process, timeout=60)
    process = start(server, timeout=60)
    assert _values(server) == [1, 2]
    assert stop(server, process, timeout=60)


def test_files_that_name_another_program_do_not_stop_the_start(folder: Path) -> None:
    server = _postgres(folder)
    stop(server, start(server, timeout=60), timeout=60)
    sleeper = spawn(
        ["/bin/sleep", "60"],
        log=folder / "sleeper.log",
        user=(folder / "postgres/cluster").owner() if os.geteuid() == 0 else None,
        cwd=Path("/"),
    )
    try:
        for name in ("cluster/postmaster.pid", "socket/.s.PGSQL.5432.lock"):
            (folder / "postgres" / name).write_text(f"{sleeper.pid}\n{folder}\n0\n5432\n\n\n\n\n")
        process = start(server, timeout=60)
        assert stop(server, process, timeout=60)
        assert sleeper.poll() is None
    finally:
        kill(sleeper)


def test_sessions_that_outlived_a_killed_server_are_waited_for(folder: Path) -> None:
    server = _postgres(folder)
    process = start(server, timeout=60)
    # A session in the middle of a sleep does not notice that its server is gone; stopped, nor does it wait.
    with psycopg.connect(server.dsn("postgres")) as connection:
        session = psutil.Process(connection.info.backend_pid)
        session.suspend()
        process.kill()
        process.wait()
        resume = threading.Timer(1.0, session.resume)
        resume.start()
        process = start(server, timeout=60)
        resume.join()
        assert _ended(session.pid)
    assert stop(server, process, timeout=60)


def test_a_server_that_outlived_its_owner_is_stopped_before_the_next_starts(folder: Path) -> None:
    server = _postgres(folder)
    orphan = start(server, timeout=60)
    server.ensure_database("posthouse")
    _insert(server, 1)
    process = start(_postgres(folder), timeout=60)
    assert orphan.wait(60) == 0
    assert _values(server) == [1]
    assert stop(server, process, timeout=60)


def test_postgres_opens_no_port_and_no_door_to_others(folder: Path) -> None:
    server = _postgres(folder)
    process = start(server, timeout=60)
    try:
        with psycopg.connect(server.dsn("postgres")) as connection:
            row = connection.execute(
                "SELECT current_setting('listen_addresses'), current_setting('synchronous_commit'), "
                "current_setting('fsync'), current_setting('shared_buffers')"
            ).fetchone()
        assert row == ("", "on", "on", "256MB")
        assert server.socket_directory.stat().st_mode & 0o077 == 0
    finally:
        stop(server, process, timeout=60)


def test_a_deep_folder_gets_a_short_socket(folder: Path) -> None:
    deep = folder.joinpath(*["a folder with a long name"] * 5)
    server = _postgres(deep)
    assert len(str(server.socket_directory)) < 60
    process = start(server, timeout=60)
    try:
        assert server.is_ready()
    finally:
        stop(server, process, timeout=60)
        server.socket_directory.rmdir()


def test_an_initdb_cut_short_leaves_nothing_half_done(folder: Path) -> None:
    (folder / "postgres/cluster.new").mkdir(parents=True)
    (folder / "postgres/cluster.new/PG_VERSION").write_text("18\n")
    server = _postgres(folder)
    assert stop(server, start(server, timeout=60), timeout=60)


def test_data_of_another_version_are_refused(folder: Path) -> None:
    (folder / "postgres/cluster").mkdir(parents=True)
    (folder / "postgres/cluster/PG_VERSION").write_text("16\n")
    with pytest.raises(StartError, match="PostgreSQL 16, this is 18"):
        _postgres(folder).launch()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
def test_nothing_outlives_an_owner_killed_with_kill_9(folder: Path) -> None:
    command = [sys.executable, "-c", _OWNER, str(folder)]
    owner = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: S603 - our own code
    assert owner.stdout is not None
    pids = [int(pid) for pid in owner.stdout.readline().split()]
    assert len(pids) == 2
    owner.kill()
    owner.communicate()
    _wait(lambda: all(_ended(pid) for pid in pids))
    server = _postgres(folder)
    assert stop(server, start(server, timeout=60), timeout=60)
    assert "was shut down at" in server.log.read_text()


async def test_nats_stores_what_it_acknowledges_and_wants_its_token(folder: Path) -> None:
    server = EmbeddedNats(folder / "nats", log=folder / "nats.log")
    assert not server.is_ready()
    process = start(server, timeout=60)
    assert "sync_interval: always" in (folder / "nats/nats.conf").read_text()
    assert (folder / "nats/nats.conf").stat().st_mode & 0o077 == 0
    with pytest.raises(nats.errors.Error):
        await nats.connect(f"nats://127.0.0.1:{server.port}", allow_reconnect=False)
    await _publish(server.url)
    kill(process)
    process = start(server, timeout=60)
    assert await _stored(server.url) == 1
    assert stop(server, process, timeout=60)
    assert process.returncode is not None


def test_a_server_that_cannot_start_says_so(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = EmbeddedNats(folder / "nats", log=folder / "nats.log", port=taken.getsockname()[1])
        with pytest.raises(StartError, match="NATS"):
            start(server, timeout=1.5)


def test_children_do_not_hear_the_terminal(folder: Path) -> None:
    server = EmbeddedNats(folder / "nats", log=folder / "nats.log")
    process = start(server, timeout=60)
    try:
        assert os.getsid(process.pid) == process.pid
        assert server.stop_signal == signal.SIGTERM
    finally:
        kill(process)


async def _publish(url: str) -> None:
    client = await nats.connect(url)
    stream = client.jetstream()
    await stream.add_stream(name="KEPT", subjects=["kept.>"])
    await stream.publish("kept.one", b"payload")
    await client.close()


async def _stored(url: str) -> int:
    client = await nats.connect(url)
    try:
        async with asyncio.timeout(60):
            info = await client.jetstream().stream_info("KEPT")
        return int(info.state.messages)
    finally:
        await client.close()
