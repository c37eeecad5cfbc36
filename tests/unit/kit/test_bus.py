"""The conveyor's connection: why it does not stand is said, once."""

import asyncio

import pytest
from structlog.testing import CapturingLogger

from services.kit import bus as bus_module
from services.kit.bus import Bus, BusConfig
from tests.servers import free_ports


async def test_why_nats_is_not_reached_is_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    log = CapturingLogger()
    monkeypatch.setattr(bus_module, "_log", log)
    bus = Bus(BusConfig([f"nats://127.0.0.1:{free_ports(1)}"], "tests"))
    await bus.start()
    async with asyncio.timeout(60):
        while len(log.calls) < 3:  # noqa: ASYNC110 - calls set no event
            await asyncio.sleep(0.02)
    await bus.close()
    warning, *others = log.calls
    assert (warning.method_name, warning.args) == ("warning", ("bus_not_reached",))
    assert "Refused" in warning.kwargs["error"]
    assert {call.method_name for call in others} == {"debug"}
