"""One slot takes work at a time, until it has claimed it."""

import asyncio

from services.dispatch.turn import Turn


async def test_the_next_begins_when_the_turn_ends_and_not_before() -> None:
    lock = asyncio.Lock()
    log: list[str] = []
    claimed, taken = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with Turn(lock) as turn:
            log.append("first takes")
            await claimed.wait()
            turn.end()
            await asyncio.wait_for(taken.wait(), 60)
            log.append("first has sent")

    async def second() -> None:
        async with Turn(lock) as turn:
            log.append("second takes")
            turn.end()
            taken.set()

    tasks = [asyncio.create_task(first()), asyncio.create_task(second())]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert log == ["first takes"]
    claimed.set()
    await asyncio.gather(*tasks)
    assert log == ["first takes", "second takes", "first has sent"]
    assert not lock.locked()


async def test_a_turn_ends_with_its_block_and_only_its_own() -> None:
    lock = asyncio.Lock()
    turn = Turn(lock)
    async with turn:
        assert lock.locked()
    assert not lock.locked()
    async with Turn(lock):
        turn.end()
        assert lock.locked()
