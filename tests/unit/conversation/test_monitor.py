"""The client of the Collections Monitor, against the one that is there to try."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cli.monitor_simulator import MonitorSimulator
from services.conversation.monitor import Failed, Known, MonitorClient, Unknown, number_variants
from services.conversation.tenants import AskingPolicy

NUMBER = "+15559876543"


@pytest.fixture
async def simulator(tmp_path: Path) -> AsyncIterator[MonitorSimulator]:
    simulator = MonitorSimulator(tmp_path / "monitor.json")
    yield simulator
    await simulator.close()


@pytest.fixture
async def url(simulator: MonitorSimulator) -> str:
    return await simulator.start("127.0.0.1", 0)


@pytest.fixture
async def client(url: str) -> AsyncIterator[MonitorClient]:
    client = MonitorClient(url + "/", timeout=60)
    yield client
    await client.close()


def _list(simulator: MonitorSimulator, *numbers: str, tenant_id: str = "t 1/2", language: Any = None) -> None:
    simulator.tenants[tenant_id] = {"phone_numbers": list(numbers), "language_preference": language}


def test_forms_of_a_number() -> None:
    assert number_variants(NUMBER, "(555) 987-6543") == [
        "(555) 987-6543",
        NUMBER,
        "5559876543",
        "15559876543",
    ]
    assert number_variants("+5511987654321", None) == ["+5511987654321", "11987654321", "5511987654321"]


@pytest.mark.parametrize("listed", [NUMBER, "5559876543", "15559876543", "(555) 987-6543"])
async def test_finds_each_form(client: MonitorClient, simulator: MonitorSimulator, listed: str) -> None:
    simulator.tenants.clear()
    _list(simulator, listed, language="es-MX")
    found = await client.find(NUMBER, "(555) 987-6543")
    assert isinstance(found, Known)
    assert (found.tenant.tenant_id, found.tenant.language) == ("t 1/2", "es")


async def test_nobody_and_several(client: MonitorClient, simulator: MonitorSimulator) -> None:
    simulator.tenants.clear()
    assert await client.find(NUMBER, None) == Unknown()
    _list(simulator, NUMBER)
    _list(simulator, NUMBER, tenant_id="t2")
    assert await client.find(NUMBER, None) == Unknown(ambiguous=True)


async def test_a_national_number_of_another_country_is_somebody_else(
    client: MonitorClient, simulator: MonitorSimulator
) -> None:
    # Found under the digits they share, but the number that is listed is not this one.
    simulator.tenants.clear()
    _list(simulator, "5559876543", "+525559876543")
    assert isinstance(await client.find(NUMBER, None), Known)
    simulator.tenants["t 1/2"]["phone_numbers"] = ["+525559876543"]
    simulator._find = _answering({"tenants": [{"tenant_id": "t", "phone_numbers": ["+525559876543"]}]})  # type: ignore[method-assign]
    await simulator.close()
    other = MonitorClient(await simulator.start("127.0.0.1", 0), timeout=60)
    assert await other.find(NUMBER, None) == Unknown()
    await other.close()


def _answering(content: Any) -> Any:
    from aiohttp import web  # noqa: PLC0415 - only here

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response(content)

    return answer


async def test_failures_are_values(client: MonitorClient, simulator: MonitorSimulator) -> None:
    simulator.failing = 2
    assert await client.find(NUMBER, None) == Failed("status 503")
    assert await client.set_language("tenant-1001", "es") == Failed("status 503")
    simulator.tenants["t"] = {"phone_numbers": [NUMBER], "language_preference": 7}
    assert isinstance(await client.find(NUMBER, None), Failed)
    await simulator.close()
    assert isinstance(await client.find(NUMBER, None), Failed)


async def test_writes_a_preference(
    client: MonitorClient, simulator: MonitorSimulator, tmp_path: Path
) -> None:
    _list(simulator, NUMBER)
    assert await client.set_language("t 1/2", "pt") is None
    assert simulator.tenants["t 1/2"]["language_preference"] == "pt"
    assert await client.set_language("who is gone", "pt") is None
    again = MonitorSimulator(tmp_path / "monitor.json")
    assert again.tenants["t 1/2"]["language_preference"] == "pt"


async def test_the_simulator_refuses_what_is_no_tenant(url: str) -> None:
    async with httpx2.AsyncClient() as client:
        for content in (b"{", b"[]", b'{"shoe_size": 42}'):
            assert (await client.put(f"{url}/tenants/t", content=content)).status_code == 400
        answer = await client.put(f"{url}/tenants/t", json={"name": "Ana", "phone_numbers": ["1"]})
        assert answer.json() == {"tenant_id": "t", "name": "Ana", "phone_numbers": ["1"]}


def test_delays_grow_up_to_a_bound() -> None:
    policy = AskingPolicy(reconcile_interval=300, longest=86_400, retry_base=1, retry_longest=300)
    assert [policy.after_miss(n) for n in (0, 1, 2, 9, 10_000)] == [300, 600, 1200, 86_400, 86_400]
    for failures, ceiling in ((0, 1), (3, 8), (10_000, 300)):
        assert ceiling / 2 <= policy.after_failure(failures) <= ceiling
