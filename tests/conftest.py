"""Fixtures of all tests: real servers, a database each, settings that point there."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import pytest_socket
import pytest_timeout
import structlog

from services.kit.config import Settings
from tests.servers import NatsForTests, PostgresForTests, free_ports, running_nats, running_postgres

# Left to itself, structlog draws an exception with the variables of all its frames, which takes seconds.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)

# How long an example takes to make or to run says something of the machine alone.
hypothesis.settings.register_profile(
    "posthouse", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("posthouse")

# FUZZ_EXAMPLES=100000 makes a long run of the tests that draw their inputs; see `make fuzz`.
hypothesis.settings.register_profile(
    "fuzz",
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "100")),
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
if "FUZZ_EXAMPLES" in os.environ:
    hypothesis.settings.load_profile("fuzz")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from tests.shares import Shares  # noqa: PLC0415 - not where the plugin is switched off

    return Shares(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    pytest_socket.socket_allow_hosts(["127.0.0.1", "::1", "localhost"], allow_unix_socket=True)
    with _timed(item):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    with _timed(item):
        yield


@contextlib.contextmanager
def _timed(item: pytest.Item) -> Iterator[None]:
    """Bound a phase by itself, as `timeout_func_only` does with the test proper.

    A timer over all phases can strike between two of them, where nothing takes it for the failure of a test:
    it ended the whole process, and with it the run ("assert not crashitem").
    """
    seconds = (
        float(item.config.getini("timeout") or 0) if item.config.pluginmanager.hasplugin("timeout") else 0
    )
    if not seconds:
        yield
        return
    settings = pytest_timeout.Settings(seconds, "signal", func_only=True, disable_debugger_detection=False)
    item.config.hook.pytest_timeout_set_timer(item=item, settings=settings)
    try:
        yield
    finally:
        item.config.hook.pytest_timeout_cancel_timer(item=item)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the developer's own settings, so that every test sees the defaults."""
    aliased = {name.upper() for name, field in Settings.model_fields.items() if field.validation_alias}
    for name in list(os.environ):
        if name.upper() in aliased or name.upper().startswith("POSTHOUSE_"):
            monkeypatch.delenv(name)
    monkeypatch.setitem(Settings.model_config, "env_file", None)


@pytest.fixture(autouse=True)
def _logs_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what commands and processes do to the logs when a test runs them in its own process.

    A logger that kept the settings of its first line for ever would be deaf to `capture_logs` of later tests.
    """
    configure, before = structlog.configure, structlog.get_config()
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    monkeypatch.setattr(
        structlog, "configure", lambda **given: configure(**{**given, "cache_logger_on_first_use": False})
    )
    yield
    configure(**before)
    root.handlers, root.level = handlers, level


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresForTests]:
    """The PostgreSQL of the session; use `database_url` unless a test needs databases of its own."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def database_url(postgres_server: PostgresForTests) -> Iterator[str]:
    """A database of this test alone, with the schema of the newest migration."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture
def empty_database_url(postgres_server: PostgresForTests) -> Iterator[str]:
    """A database of this test alone without any table."""
    url = postgres_server.create_database(migrated=False)
    yield url
    postgres_server.drop_database(url)


@pytest.fixture
def nats_server() -> Iterator[NatsForTests]:
    """A NATS server of this test alone, which it may kill and start again."""
    with running_nats() as server:
        yield server


@pytest.fixture
def nats_url(nats_server: NatsForTests) -> str:
    """The URL of a NATS server with an empty JetStream."""
    return nats_server.url


@pytest.fixture
def settings(database_url: str, nats_url: str, tmp_path: Path) -> Settings:
    """Settings of a whole stack on this test's servers and on ports of its own."""
    # Three for gRPC and three for metrics after them.
    grpc_port, http_port = free_ports(6), free_ports(1)
    return Settings.model_validate(
        {
            "database_url": database_url,
            "nats_url": nats_url,
            "data_dir": tmp_path,
            "grpc_port": grpc_port,
            "http_port": http_port,
            "simulator_secret": "simulator-secret-of-the-tests",
            "simulator_path": tmp_path / "simulator.db",
            "webhook_base_url": f"http://127.0.0.1:{http_port}",
            "log_level": "warning",
            # However slow the machine is, nobody is to tire of a statement or a lock.
            "database_timeout": 60.0,
            # Nobody balances calls here.
            "drain_notice": 0.0,
            # Tests of other things send as much as they need.
            "rate_limit_enabled": False,
        }
    )
