"""Requests under way at once, of which dispatchers have their shares."""

import asyncio

from services.providers.shared_semaphore import SharedSemaphore


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_share_is_kept_and_follows_the_number_of_dispatchers() -> None:
    dispatchers = 3
    semaphore = SharedSemaphore(10)
    semaphore.dispatchers = lambda: dispatchers
    takers = [asyncio.create_task(semaphore.acquire()) for _ in range(20)]
    await _turns()
    assert [taker.done() for taker in takers] == [True] * 3 + [False] * 17
    dispatchers = 1
    semaphore.release()
    await _turns()
    assert sum(taker.done() for taker in takers) == 11
    dispatchers = 20
    for _ in range(9):
        semaphore.release()
    await _turns()
    assert sum(taker.done() for taker in takers) == 11
    # Never below one.
    semaphore.release()
    await _turns()
    assert sum(taker.done() for taker in takers) == 12
    for taker in takers:
        taker.cancel()
    await asyncio.gather(*takers, return_exceptions=True)


async def test_who_gives_up_takes_no_slot_along() -> None:
    semaphore = SharedSemaphore(1)
    await semaphore.acquire()
    waiting, handed, last = [asyncio.create_task(semaphore.acquire()) for _ in range(3)]
    await _turns()
    waiting.cancel()
    await _turns()
    # It is cancelled after the slot was handed to it and before it runs.
    semaphore.release()
    handed.cancel()
    await asyncio.wait_for(last, 60)
    assert handed.cancelled()
    semaphore.release()
    async with semaphore:
        pass
