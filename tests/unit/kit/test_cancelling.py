"""Tasks end, also those that lose a cancellation."""

import asyncio
import contextlib

import pytest

from services.kit import cancelling
from services.kit.cancelling import cancel_all


async def test_a_task_that_loses_cancellations_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancelling, "_PATIENCE", 0.01)
    lost = 0

    async def deaf() -> None:
        nonlocal lost
        for _ in range(3):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                lost += 1
        await asyncio.sleep(60)

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    await asyncio.wait_for(cancel_all([task]), 60)
    assert lost == 3
    assert task.cancelled()


async def test_however_tasks_end() -> None:
    async def fails() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise RuntimeError

    async def returns() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)

    tasks = [asyncio.create_task(fails()), asyncio.create_task(returns())]
    await asyncio.sleep(0)
    await asyncio.wait_for(cancel_all(tasks), 60)
    assert isinstance(tasks[0].exception(), RuntimeError)
    assert tasks[1].result() is None
    await cancel_all([])
