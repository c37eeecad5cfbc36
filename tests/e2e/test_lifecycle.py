"""How a stack starts, stops, dies and comes back, and what it says of itself meanwhile."""

import uuid

import httpx2
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cli.embedded.spawn import is_alive
from tests.e2e.stack import E2eStack, eventually

pytestmark = pytest.mark.integration

_SERVICES = ("MessageService", "ConversationService", "DispatchService")


def _send(stack: E2eStack, count: int) -> list[str]:
    body = {"from": "+15551234567", "to": "+15559870005", "body": f"Hello {uuid.uuid4()}"}
    response = stack.http.post("/api/v1/messages/batch", json={"messages": [body] * count})
    assert response.status_code == 207, response.text
    return [result["message"]["id"] for result in response.json()["results"]]


def _states(stack: E2eStack, message_ids: list[str]) -> dict[str, int]:
    query = "SELECT state, count(*) FROM messages WHERE id = ANY(%(ids)s::uuid[]) GROUP BY state"
    return dict(stack.rows(query, {"ids": message_ids}))


def _await_delivery(stack: E2eStack, message_ids: list[str]) -> None:
    wanted = {"delivered": len(message_ids)}
    eventually(
        lambda: _states(stack, message_ids) == wanted,
        what=f"{wanted}",
        report=stack.left_over,
    )
    assert set(stack.simulator.seen(message_ids).values()) == {1}


def _health(stack: E2eStack, place: int) -> int:
    with stack.channel(place) as channel:
        request = health_pb2.HealthCheckRequest(service=f"posthouse.v1.{_SERVICES[place]}")
        status: int = health_pb2_grpc.HealthStub(channel).Check(request, timeout=60).status
        return status


def _ready(stack: E2eStack) -> int:
    return stack.http.get("/ready").status_code


def test_two_stacks_run_side_by_side(stack: E2eStack, own_stack: E2eStack) -> None:
    ours, theirs = _send(stack, 3), _send(own_stack, 3)
    _await_delivery(stack, ours)
    _await_delivery(own_stack, theirs)
    assert _states(stack, theirs) == _states(own_stack, ours) == {}
    assert stack.http.get(f"/api/v1/messages/{theirs[0]}").status_code == 404
    assert stack.state.nats_url != own_stack.state.nats_url


def test_a_second_up_on_the_same_folder_is_refused(own_stack: E2eStack) -> None:
    second = own_stack.run(*own_stack.command())
    assert second.returncode == 1
    said = " ".join(second.stderr.split())
    assert said.startswith(f"posthouse: already running on {own_stack.data}")
    assert f"process {own_stack.pid}" in said
    assert str(own_stack.http_port) in said
    # And has changed nothing.
    assert own_stack.is_healthy()


def test_up_on_a_port_in_use_is_refused(stack: E2eStack, own_stack: E2eStack) -> None:
    command = own_stack.command()
    other = command.index("--data-dir") + 1
    folder = stack.data.parent / "third"
    command[other] = str(folder)
    third = stack.run(*command)
    assert third.returncode == 1
    assert f"port {own_stack.http_port} (HTTP, --http-port): in use" in " ".join(third.stderr.split())
    assert "Traceback" not in third.stderr
    assert not (folder / "posthouse.json").exists()


def test_health_follows_postgresql(own_stack: E2eStack) -> None:
    assert _ready(own_stack) == 200
    with own_stack.frozen("postgres"):
        for place, name in enumerate(_SERVICES):
            eventually(
                lambda place=place: _health(own_stack, place) == health_pb2.HealthCheckResponse.NOT_SERVING,  # type: ignore[misc]
                what=f"{name} says that PostgreSQL is away",
            )
        eventually(lambda: _ready(own_stack) == 503, what="/ready says that PostgreSQL is away")
        health = own_stack.http.get("/health")
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
    for place, name in enumerate(_SERVICES):
        eventually(
            lambda place=place: _health(own_stack, place) == health_pb2.HealthCheckResponse.SERVING,  # type: ignore[misc]
            what=f"{name} serves again",
        )
    own_stack.await_health()


def test_a_killed_postgresql_comes_back(own_stack: E2eStack) -> None:
    sent = _send(own_stack, 50)
    own_stack.kill("postgres")
    own_stack.await_health()
    _await_delivery(own_stack, sent)
    _await_delivery(own_stack, _send(own_stack, 1))


def test_everything_killed_comes_back_with_its_data(own_stack: E2eStack) -> None:
    before = _send(own_stack, 20)
    _await_delivery(own_stack, before)
    with own_stack.frozen("dispatch"):
        waiting = _send(own_stack, 20)
        own_stack.kill_everything()
    own_stack.start()
    # Healthy before anything was asked of it, and what was committed goes its way.
    _await_delivery(own_stack, [*before, *waiting])


def test_sigterm_stops_everything_and_loses_nothing(own_stack: E2eStack) -> None:
    sent = _send(own_stack, 300)
    processes = own_stack.processes()
    assert len(processes) >= 7
    assert own_stack.terminate() == 0, own_stack.report()
    left = [process.name() for process in processes if is_alive(process)]
    assert left == []
    assert not [process for process in psutil.process_iter(["cmdline"]) if _mentions(process, own_stack)]
    with pytest.raises(httpx2.ConnectError):
        own_stack.http.get("/health")
    assert "Stopped.\n" in own_stack.log.read_text()

    own_stack.start()
    _await_delivery(own_stack, sent)


def _mentions(process: psutil.Process, stack: E2eStack) -> bool:
    return any(str(stack.data) in part for part in process.info["cmdline"] or ())
