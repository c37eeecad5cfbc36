"""However many dispatchers there are, a carrier's limits are kept by all of them together."""

from datetime import datetime

import pytest

from posthouse.v1 import message_service_pb2 as pb
from tests.integration.ledger.rows import OURS, eventually

from .house import House

pytestmark = pytest.mark.integration

_DISPATCHERS = 3
_MESSAGES = 120
_RATE = 30
_SENDER_RATE = 40
_SLOW = "+15550009999"


async def _until_the_last(house: House, begun: datetime) -> float:
    """Return the seconds until the last attempt, by PostgreSQL's clock."""
    took: float = await house.book.value(
        "SELECT extract(epoch FROM max(start_time) - %s)::float8 FROM dispatch_attempts", begun
    )
    return took


async def test_dispatchers_share_the_rate_of_a_provider(house: House) -> None:
    running = [await house.dispatch(provider_rates=f"scripted={_RATE}") for _ in range(_DISPATCHERS)]

    async def all_know() -> bool:
        return all(one.ownership.dispatchers == _DISPATCHERS for one in running)

    await eventually(all_know)
    begun = await house.book.value("SELECT now()")
    ids: list[str] = []
    for number in range(_MESSAGES // 10):
        ids += await house.send(*[f"{number}.{one}" for one in range(10)])
    await house.until("sent", *ids)
    took = await _until_the_last(house, begun)
    # With a whole rate each they would be done in a third of a second.
    assert took >= 0.6 * (_MESSAGES - _RATE) / _RATE
    assert await house.book.value("SELECT max(attempt_count) FROM messages") == 1


async def test_dispatchers_share_the_rate_of_a_sender(house: House) -> None:
    running = [await house.dispatch(sender_rates="*=10") for _ in range(2)]

    async def all_know() -> bool:
        return all(one.ownership.dispatchers == 2 for one in running)

    await eventually(all_know)
    begun = await house.book.value("SELECT now()")
    ids: list[str] = []
    for number in range(8):
        ids += await house.send(*[f"{number}.{one}" for one in range(5)])
    await house.until("sent", *ids)
    took = await _until_the_last(house, begun)
    assert took >= 0.6 * (40 - 10) / 10
    assert await house.book.rows("SELECT max(attempt_count), max(event_count) FROM messages") == [(1, 3)]
    # They are of one conversation.
    assert house.provider.bodies == [f"{number}.{one}" for number in range(8) for one in range(5)]


async def test_dispatchers_share_the_rate_of_a_sender_to_many_recipients(house: House) -> None:
    running = [await house.dispatch(sender_rates=f"*={_SENDER_RATE}") for _ in range(2)]

    async def all_know() -> bool:
        return all(one.ownership.dispatchers == 2 for one in running)

    await eventually(all_know)
    begun = await house.book.value("SELECT now()")
    for batch in range(3):
        await house.stub.SendMessages(
            pb.SendMessagesRequest(
                requests=[
                    pb.SendMessageRequest(body="hi", sender=OURS, recipient=f"+1555{batch:03}{one:04}")
                    for one in range(120)
                ]
            )
        )
    await house.until_true("SELECT count(*) = 360 FROM messages WHERE state = 'sent'")
    times = await house.book.rows(
        "SELECT extract(epoch FROM start_time - %s)::float8 FROM dispatch_attempts ORDER BY 1", begun
    )
    assert len(times) == 360
    # A second's worth at once and then what a second brings, by any time: a claim may be late, never early.
    for number, (start,) in enumerate(times, start=1):
        assert number <= _SENDER_RATE * (1.0 + start) + 2
    assert await house.book.value("SELECT max(attempt_count) FROM messages") == 1


async def test_who_only_met_a_providers_rate_does_not_wait_for_the_rate_of_another_sender(
    house: House,
) -> None:
    await house.dispatch(sender_rates=f"{_SLOW}=0.01", provider_rates=f"scripted={_RATE}")
    answer = await house.stub.SendMessages(
        pb.SendMessagesRequest(
            requests=[
                pb.SendMessageRequest(body="hi", sender=sender, recipient=f"+1555777{number:04}")
                for number, sender in enumerate([_SLOW, _SLOW, *[OURS] * 3 * _RATE])
            ]
        )
    )
    first, second, *others = [result.message.id for result in answer.results]
    await house.until("sent", first, *others)
    assert await house.book.value("SELECT state FROM messages WHERE id = %s", second) == "pending"
