"""Work in the background goes on, whatever it meets."""

import asyncio

import pytest
from structlog.testing import capture_logs

from services.kit import background, metrics
from services.kit.background import in_background
from services.kit.cancelling import cancel_all


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_PAUSE", 0.0)


async def test_what_fails_begins_again_and_is_told() -> None:
    begun, goes_on = 0, asyncio.Event()

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            raise ZeroDivisionError
        goes_on.set()
        await asyncio.Event().wait()

    counted = metrics.BACKGROUND_FAILURES.labels("some work")._value
    before = counted.get()
    with capture_logs() as logs:
        task = in_background("some work", work)
        await goes_on.wait()
    assert not task.done()
    assert counted.get() == before + 2
    assert [(entry["event"], entry["work"]) for entry in logs] == [
        ("background_work_failed", "some work")
    ] * 2
    await cancel_all([task])
    assert task.cancelled()
    assert begun == 3


async def test_what_ends_by_itself_has_ended() -> None:
    async def work() -> None:
        await asyncio.sleep(0)

    await in_background("some work", work)
