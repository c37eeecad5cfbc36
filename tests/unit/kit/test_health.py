"""What decides whether a process is healthy, and what is only told."""

import asyncio

from services.kit.health import HealthMonitor


async def test_what_is_reported_decides_nothing() -> None:
    answers = {"postgresql": False, "nats": False}
    changes: list[bool] = []
    reports: list[tuple[str, bool]] = []

    async def change(healthy: bool) -> None:
        changes.append(healthy)

    async def report(name: str, passed: bool) -> None:
        reports.append((name, passed))

    async def postgresql() -> bool:
        return answers["postgresql"]

    async def nats() -> bool:
        if not answers["nats"]:
            raise OSError
        return True

    monitor = HealthMonitor({"postgresql": postgresql}, change, reported={"nats": nats}, on_report=report)
    assert not await monitor.check()
    assert reports == [("postgresql", False), ("nats", False)]
    answers["postgresql"] = True
    assert await monitor.check()
    assert (monitor.states, monitor.reported) == ({"postgresql": True}, {"nats": False})
    answers["nats"] = True
    assert await monitor.check()
    assert monitor.reported == {"nats": True}
    assert changes == [True]
    assert reports[2:] == [("postgresql", True), ("nats", True)]


async def test_a_check_that_is_not_wanted_any_more_gives_back_what_it_holds() -> None:
    begun, held = asyncio.Event(), {"a connection"}

    async def hangs() -> bool:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            # As a connection does, which says good-bye to its server.
            for _ in range(100):
                await asyncio.sleep(0)
            held.clear()
        return True

    async def change(_healthy: bool) -> None:
        raise AssertionError

    watching = asyncio.create_task(HealthMonitor({"postgresql": hangs}, change).run())
    await begun.wait()
    watching.cancel()
    await asyncio.wait((watching,))
    assert not held
