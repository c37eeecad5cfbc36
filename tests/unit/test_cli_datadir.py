"""The lock, the state and the secret of a data folder."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cli.datadir import DataDir, DataDirError, StackState, start_time

_STATE = StackState(
    pid=os.getpid(), host="127.0.0.1", http_port=8000, grpc_port=50051, database_url="d", nats_url="n"
)


def test_a_second_holder_is_told_who_has_it(tmp_path: Path) -> None:
    first, second = DataDir(tmp_path), DataDir(tmp_path)
    first.acquire()
    first.write_state(_STATE)
    with pytest.raises(DataDirError, match=rf"process {os.getpid()}, HTTP port 8000, gRPC ports 50051-50053"):
        second.acquire()
    first.release()
    second.acquire()
    assert second.read_state() is None
    second.release()


def test_a_holder_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, cli.datadir as d; x = d.DataDir(pathlib.Path(sys.argv[1])); x.acquire(); "
        "print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(  # noqa: S603 - our own code
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(DataDirError, match="already running"):
        DataDir(tmp_path).acquire()
    holder.kill()
    holder.communicate()
    DataDir(tmp_path).acquire()


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataDirError, match=r"cannot use .*/file/data"):
        DataDir(tmp_path / "file" / "data").acquire()


def test_state_survives_and_is_private(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    assert data.read_state() is None
    data.write_state(_STATE)
    assert data.read_state() == _STATE
    assert stat.S_IMODE((tmp_path / "posthouse.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"children": {"a": 1}}', '{"children": {}, "x": 1}'])
def test_a_broken_state_is_no_state(tmp_path: Path, text: str) -> None:
    (tmp_path / "posthouse.json").write_text(text)
    assert DataDir(tmp_path).read_state() is None


def test_the_secret_is_made_once_and_private(tmp_path: Path) -> None:
    secret = DataDir(tmp_path).secret()
    assert len(secret) >= 32
    assert DataDir(tmp_path).secret() == secret
    path = tmp_path / "simulator.secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("")
    assert len(DataDir(tmp_path).secret()) >= 32


def test_leftovers_are_ended_and_namesakes_are_not(tmp_path: Path) -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    left, namesake, spared = (subprocess.Popen(sleeper) for _ in range(3))  # noqa: S603 - our own code
    data = DataDir(tmp_path)
    children = {
        "message": (left.pid, start_time(left.pid)),
        # The same id, but a process that started at another time.
        "gateway": (namesake.pid, start_time(namesake.pid) - 100),
        "postgres": (spared.pid, start_time(spared.pid)),
        "nats": (2**22 + 1, 0.0),
    }
    data.write_state(
        StackState(
            pid=1, host="h", http_port=1, grpc_port=2, database_url="d", nats_url="n", children=children
        )
    )
    try:
        assert data.end_leftovers(grace=60, sparing=["postgres"]) == ["message"]
        assert left.wait(60) != 0
        assert namesake.poll() is None
        assert spared.poll() is None
    finally:
        for process in (left, namesake, spared):
            process.kill()
            process.wait()


def test_no_process_has_no_start_time() -> None:
    assert start_time(2**22 + 1) == 0.0
