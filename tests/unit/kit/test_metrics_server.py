import http.client
import socket

import pytest

from services.kit.config import Settings
from services.kit.metrics_server import metrics_address, serve_metrics
from tests.servers import free_ports


def test_each_process_has_a_port_of_its_own() -> None:
    settings = Settings(grpc_port=6000)
    found = [metrics_address(name, settings) for name in ("message", "conversation", "dispatch", "gateway")]
    assert found == [("127.0.0.1", 6003), ("127.0.0.1", 6004), ("127.0.0.1", 6005), None]
    assert metrics_address("dispatch", Settings(metrics_port=9464)) == ("127.0.0.1", 9466)
    assert metrics_address("dispatch", Settings(metrics_port=0)) is None


def test_metrics_that_are_not_open_stay_on_this_machine() -> None:
    given = {"host": "10.0.0.1", "api_key_secret": "x" * 32}
    assert metrics_address("message", Settings.model_validate(given)) == ("10.0.0.1", 50054)
    closed = Settings.model_validate({**given, "open_endpoints": "health"})
    assert metrics_address("message", closed) == ("127.0.0.1", 50054)


def test_a_port_in_use_is_said_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port} for metrics"):
            serve_metrics("message", Settings(metrics_port=port)).__enter__()


def test_serves_and_lets_the_port_go() -> None:
    settings = Settings(metrics_port=free_ports(1))
    for _ in range(2):
        with serve_metrics("message", settings):
            connection = http.client.HTTPConnection("127.0.0.1", settings.metrics_port or 0, timeout=30)
            connection.request("GET", "/metrics")
            assert b"messages_accepted_total" in connection.getresponse().read()
            connection.close()
