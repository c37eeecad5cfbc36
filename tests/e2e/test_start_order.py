"""Processes that start before what they need: the gateway before all, message and dispatch before servers."""

import contextlib
import uuid
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cli.embedded.postgres import EmbeddedPostgres
from cli.embedded.spawn import Process, kill, spawn, start, stop
from services.ledger.migrate import upgrade
from tests.e2e.stack import PROGRAM, eventually, outside_environment
from tests.ports import free_ports
from tests.servers import FAST, NatsForTests, temporary_directory

pytestmark = pytest.mark.integration

_SEND = "/api/v1/messages/send"


class _Processes:
    """The four processes and both servers, none of which is there yet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.postgres = EmbeddedPostgres(folder / "postgres", log=folder / "postgres.log", settings=FAST)
        (folder / "nats").mkdir()
        self.nats = NatsForTests(folder / "nats")
        self._http_port = free_ports(1)
        self.http = httpx2.Client(base_url=f"http://127.0.0.1:{self._http_port}", timeout=60, trust_env=False)

        self._environment = outside_environment(
            {
                "DATABASE_URL": self.postgres.dsn("posthouse"),
                "NATS_URL": self.nats.url,
                "POSTHOUSE_HTTP_PORT": str(self._http_port),
                "POSTHOUSE_GRPC_PORT": str(free_ports(6)),
                "POSTHOUSE_DATA_DIR": str(self._folder),
                "POSTHOUSE_SIMULATOR_PATH": str(self._folder / "simulator.db"),
                "POSTHOUSE_SIMULATOR_SECRET": "secret-of-the-simulator-of-this-test",
                "POSTHOUSE_WEBHOOK_BASE_URL": f"http://127.0.0.1:{self._http_port}",
                "POSTHOUSE_OUTBOX_REPUBLISH_AFTER": "0.5",
            }
        )

    def start(self, name: str) -> Process:
        """Start a process as `posthouse NAME` would be run by hand."""
        log = self._folder / f"{name}.log"
        return spawn([str(PROGRAM), name], log=log, env=self._environment, cwd=self._folder)

    def ready(self) -> Any:
        """Return what /ready says, its status first; None while the gateway does not listen."""
        try:
            response = self.http.get("/ready")
        except httpx2.TransportError:
            return None
        said = response.json()
        assert said["ready"] == (response.status_code == 200)
        return response.status_code, said["failing"]

    def await_ready(self, *wanted: str) -> None:
        """Wait until just these are what keeps the gateway from being ready."""
        expected = (503 if wanted else 200, list(wanted))
        eventually(
            lambda: self.ready() == expected, what=f"{expected}", report=lambda: f"it is {self.ready()}"
        )

    def send(self) -> httpx2.Response:
        """Send a message."""
        body = {"from": "+15551234567", "to": "+15559870021", "body": f"Hello {uuid.uuid4()}"}
        return self.http.post(_SEND, json=body)

    def await_delivery(self, message_id: str) -> None:
        """Wait until a message has arrived."""
        path = f"/api/v1/messages/{message_id}"
        eventually(lambda: self.http.get(path).json()["status"] == "delivered", what="delivery")


def test_they_start_before_everything_and_find_it() -> None:
    with temporary_directory() as folder:
        house = _Processes(folder)
        with contextlib.ExitStack() as running:
            running.callback(kill, house.start("gateway"))
            house.await_ready("message", "nats", "outbox", "postgresql")
            for name in ("dispatch", "conversation", "message"):
                running.callback(kill, house.start(name))
            # The gateway and message find each other; nothing can be kept yet, and nothing is said to be.
            house.await_ready("message", "nats", "postgresql")
            refused = house.send()
            assert (refused.status_code, refused.json()["reason"]) == (503, "DEPENDENCY_UNAVAILABLE")
            house.nats.start()
            running.callback(house.nats.kill)
            house.await_ready("message", "postgresql")
            server = start(house.postgres, timeout=120)
            running.callback(stop, house.postgres, server, timeout=60)
            house.postgres.ensure_database("posthouse")
            upgrade(house.postgres.dsn("posthouse"))
            house.await_ready()
            house.await_delivery(house.send().json()["id"])

            house.nats.kill(delete_store=True)
            house.await_ready("message", "nats")
            # Not ready, and takes what is sent all the same.
            kept = house.send()
            assert kept.status_code == 202
            house.nats.start()
            house.await_ready()
            house.await_delivery(kept.json()["id"])
