"""The conveyor's connection: why it does not stand is said, once."""

import asyncio

import structlog.testing

from services.kit.bus import Bus, BusConfig
from tests.servers import free_ports


async def test_why_nats_is_not_reached_is_logged_once() -> None:
    bus = Bus(BusConfig([f"nats://127.0.0.1:{free_ports(1)}"], "tests"))
    with structlog.testing.capture_logs() as logs:
        await bus.start()
        async with asyncio.timeout(60):
            while sum(line["event"].startswith("bus_") for line in logs) < 3:  # noqa: ASYNC110 - lines, no event
                await asyncio.sleep(0.02)
        await bus.close()
    warnings = [line for line in logs if line["log_level"] == "warning"]
    assert [line["event"] for line in warnings] == ["bus_not_reached"]
    assert "Refused" in warnings[0]["error"]
