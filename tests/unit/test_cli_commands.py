"""The command line: what it refuses, and in which words."""

import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import ports
from cli.console import version
from cli.datadir import DataDir, StackState
from cli.demo import running_url
from cli.main import app
from services.kit.config import Settings
from tests.servers import free_ports

# Linux 6.3 and newer.
_LOCAL_PORT_RANGE = 51


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_help_lists_every_process() -> None:
    shown = CliRunner().invoke(app, ["--help"]).output
    for name in (
        "up",
        "message",
        "conversation",
        "dispatch",
        "gateway",
        "migrate",
        "demo",
        "health",
        "monitor-simulator",
    ):
        assert name in shown


def test_version() -> None:
    assert CliRunner().invoke(app, ["version"]).output == f"posthouse {version()}\n"


def test_going_down_needs_a_goal() -> None:
    result = CliRunner().invoke(app, ["migrate", "--down"])
    assert result.exit_code == 2
    assert "--down needs a --revision" in result.output


def test_a_database_that_is_away_is_one_line(monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://127.0.0.1:{taken + 1}/x?connect_timeout=1")
    result = CliRunner().invoke(app, ["migrate"])
    assert result.exit_code == 1
    assert result.output.startswith("posthouse: cannot migrate: ")
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("process", ["message", "conversation", "dispatch", "gateway"])
def test_a_process_that_is_away_is_not_healthy(monkeypatch: pytest.MonkeyPatch, process: str) -> None:
    monkeypatch.setenv("POSTHOUSE_HTTP_PORT", str(free_ports(1)))
    monkeypatch.setenv("POSTHOUSE_GRPC_PORT", str(free_ports(3)))
    result = CliRunner().invoke(app, ["health", process])
    assert result.exit_code == 1
    assert "does not answer" in result.output


def test_health_asks_the_stack_that_runs_on_the_data_folder(tmp_path: Path) -> None:
    http_port, grpc_port = free_ports(1), free_ports(3)
    DataDir(tmp_path).write_state(
        StackState(
            pid=1, host="127.0.0.1", http_port=http_port, grpc_port=grpc_port, database_url="d", nats_url="n"
        )
    )
    for process, port in [("gateway", http_port), ("dispatch", grpc_port + 2)]:
        shown = CliRunner().invoke(app, ["health", process, "--data-dir", str(tmp_path)]).output
        assert shown == f"{process} at 127.0.0.1:{port} does not answer, or is not ready\n"


def test_health_of_nothing_we_run() -> None:
    result = CliRunner().invoke(app, ["health", "nats"])
    assert result.exit_code == 2
    assert "none of gateway" in result.output


def test_a_demo_without_a_stack_says_how_to_start_one() -> None:
    result = CliRunner().invoke(app, ["demo", "--url", f"http://127.0.0.1:{free_ports(1)}"])
    assert result.exit_code == 1
    assert "posthouse up" in result.output


def test_the_demo_finds_the_stack_of_the_folder(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    assert running_url(data, Settings(http_port=9001)) == "http://127.0.0.1:9001"
    data.write_state(
        StackState(pid=1, host="0.0.0.0", http_port=9000, grpc_port=2, database_url="d", nats_url="n")  # noqa: S104
    )
    assert running_url(data, Settings(http_port=9001)) == "http://127.0.0.1:9000"


def test_a_taken_port_is_named(taken: int) -> None:
    free = free_ports(1)
    found = ports.busy("127.0.0.1", [taken, free])
    assert found == {taken: "in use"}
    line = ports.describe("127.0.0.1", {taken: "HTTP, --http-port"}, found)
    assert line == f"cannot listen on 127.0.0.1: port {taken} (HTTP, --http-port): in use"


def test_a_port_of_a_connection_passes_and_is_told_from_one_of_a_server(taken: int) -> None:
    with socket.create_connection(("127.0.0.1", taken)) as connection:
        port = connection.getsockname()[1]
        assert ports.busy("127.0.0.1", [port, taken]) == {port: ports.PASSING, taken: ports.SERVED}


def test_no_connection_gets_a_reserved_port_and_a_server_does(taken: int) -> None:
    port = _ephemeral_port()
    with ports.reserved("127.0.0.1", [port]):
        assert ports.busy("127.0.0.1", [port]) == {}
        with pytest.raises(OSError, match="assign requested address"):
            _connect(taken, near=port)
        with socket.create_server(("127.0.0.1", port)):
            pass
    _connect(taken, near=port)


def _connect(port: int, *, near: int) -> None:
    """Connect, with a choice of one port for the near end."""
    with socket.socket() as client:
        try:
            client.setsockopt(socket.IPPROTO_IP, _LOCAL_PORT_RANGE, struct.pack("=I", near << 16 | near))
        except OSError:
            pytest.skip("not a system that can be told which ports a connection may have")
        client.connect(("127.0.0.1", port))


def _ephemeral_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_an_address_that_is_not_ours_is_named() -> None:
    assert ports.busy("203.0.113.1", [8000])[8000]


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1:80"),
        ("0.0.0.0", "127.0.0.1:80"),  # noqa: S104 - written, not bound
        ("::", "[::1]:80"),
        ("192.0.2.7", "192.0.2.7:80"),
    ],
)
def test_addresses_under_which_servers_are_reached(host: str, address: str) -> None:
    assert ports.join(ports.reachable(host), 80) == address


@pytest.mark.parametrize("words", [[], ["01a20140-0000-7000-8000-000000000000", "--type", "sms"]])
def test_what_is_to_be_replayed_is_named_or_described(words: list[str]) -> None:
    result = CliRunner().invoke(app, ["dead-letters", "replay", *words])
    assert result.exit_code == 2
    assert "name messages" in result.output


@pytest.mark.parametrize(
    "option", ["--provider=twilio", "--verdict=forged", "--since=2026-11-22", "--until=2026-11-22"]
)
def test_webhooks_to_replay_are_named_or_described(option: str) -> None:
    entry = "01a20140-0000-7000-8000-000000000000"
    result = CliRunner().invoke(app, ["webhooks", "replay", entry, option])
    assert result.exit_code == 2
    assert "name entries" in result.output


def test_options_that_exclude_each_other_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(app, ["demo", "--url", "http://127.0.0.1:1", "--data-dir", "somewhere"])
    assert (result.exit_code, "--url or --data-dir" in result.output) == (2, True)
    monkeypatch.setenv("NATS_URL", "nats://127.0.0.1:1")
    result = CliRunner().invoke(app, ["up", "--nats-port", "4223"])
    assert (result.exit_code, "--nats-port" in result.output) == (2, True)


@pytest.mark.parametrize(
    "words",
    [
        ("webhooks", "list"),
        ("dead-letters", "list"),
        ("keys", "list"),
        ("privacy", "list"),
        ("encryption", "status"),
        ("search", "rebuild"),
        ("migrate",),
    ],
)
def test_a_folder_whose_stack_has_another_database_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    url = f"postgresql://127.0.0.1:{free_ports(1)}/x?connect_timeout=1"
    monkeypatch.setenv("DATABASE_URL", url)
    state = StackState(pid=1, host="127.0.0.1", http_port=1, grpc_port=2, database_url=url, nats_url="n")
    for database_url, code in [("postgresql://another/x", 2), (url, 1)]:
        DataDir(tmp_path).write_state(replace(state, database_url=database_url))
        # Nothing answers there: that takes each command its time, and one says enough.
        if code == 2 or words == ("migrate",):
            result = CliRunner().invoke(app, [*words, "--data-dir", str(tmp_path)])
            assert (result.exit_code, "another database" in result.output) == (code, code == 2)
