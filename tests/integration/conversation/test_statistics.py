"""Counts through a real server."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest

from posthouse.v1 import conversation_service_pb2 as pb
from services.conversation import statistics
from services.kit.ids import new_id
from services.ledger.database import Database

from .conftest import START, Seed

pytestmark = pytest.mark.integration


async def talk(seed: Seed, thread: str, *turns: tuple[int, str, str]) -> None:
    """Write messages by second, direction and state."""
    for second, direction, state in turns:
        time = START + timedelta(seconds=second)
        await seed.message(thread, direction=direction, state=state, message_time=time)


async def test_counts_of_one_conversation_and_of_all(stub: Any, seed: Seed) -> None:
    first, second = await seed.conversation(), await seed.conversation("+15550001111")
    await talk(
        seed,
        first,
        (0, "outbound", "delivered"),
        (10, "outbound", "read"),
        (16, "inbound", "received"),
        (17, "inbound", "received"),
        (20, "outbound", "undelivered"),
        (30, "inbound", "received"),
    )
    await talk(seed, second, (100, "inbound", "received"), (140, "outbound", "failed"))
    one = await stub.GetConversationStats(pb.GetConversationStatsRequest(conversation_id=first))
    assert dict(one.messages_by_direction) == {"outbound": 3, "inbound": 3}
    assert dict(one.messages_by_state) == {"delivered": 1, "read": 1, "undelivered": 1, "received": 3}
    assert dict(one.messages_by_channel) == {"sms": 6}
    assert one.active_conversation_count == 1
    assert one.delivery_rate == pytest.approx(2 / 3)
    assert (one.mean_response_seconds, one.median_response_seconds) == (8, 8)
    assert (one.mean_answer_seconds, one.median_answer_seconds) == (3, 3)
    everything = await stub.GetConversationStats(pb.GetConversationStatsRequest())
    assert dict(everything.messages_by_direction) == {"outbound": 4, "inbound": 4}
    assert everything.active_conversation_count == 2
    assert everything.delivery_rate == pytest.approx(2 / 3)
    assert everything.mean_answer_seconds == 21.5


async def test_a_window_may_begin_with_the_calendar(stub: Any, seed: Seed) -> None:
    await talk(seed, await seed.conversation(), (0, "inbound", "received"))
    request = pb.GetConversationStatsRequest()
    request.since_time.FromJsonString("0001-01-01T00:00:00Z")
    assert dict((await stub.GetConversationStats(request)).messages_by_direction) == {"inbound": 1}


async def test_window(stub: Any, seed: Seed) -> None:
    thread = await seed.conversation()
    await talk(
        seed, thread, (0, "outbound", "sent"), (10, "inbound", "received"), (20, "outbound", "delivered")
    )

    async def counted(since: int | None = None, until: int | None = None, **fields: Any) -> int:
        request = pb.GetConversationStatsRequest(**fields)
        if since is not None:
            request.since_time.FromDatetime(START + timedelta(seconds=since))
        if until is not None:
            request.until_time.FromDatetime(START + timedelta(seconds=until))
        response = await stub.GetConversationStats(request)
        return sum(response.messages_by_direction.values())

    for fields in ({}, {"conversation_id": thread}):
        assert await counted(**fields) == 3
        assert await counted(since=10, **fields) == 2
        assert await counted(until=10, **fields) == 1
        assert await counted(since=10, until=20, **fields) == 1
        assert await counted(since=50, **fields) == 0


async def test_nothing_is_no_error(stub: Any) -> None:
    counts = await stub.GetConversationStats(pb.GetConversationStatsRequest())
    assert counts == pb.GetConversationStatsResponse()


async def test_refusals(stub: Any, refusal: Callable[[Any], Any]) -> None:
    error = await refusal(stub.GetConversationStats(pb.GetConversationStatsRequest(conversation_id=new_id())))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "CONVERSATION_NOT_FOUND")
    request = pb.GetConversationStatsRequest()
    request.since_time.FromDatetime(START)
    request.until_time.FromDatetime(START)
    error = await refusal(stub.GetConversationStats(request))
    assert [violation.field for violation in error.violations] == ["until_time"]


async def test_counts_over_all_are_kept_for_a_while(stub: Any, seed: Seed) -> None:
    thread = await seed.conversation()
    await seed.message(thread)
    request = pb.GetConversationStatsRequest()
    before = await stub.GetConversationStats(request)
    await seed.message(thread)
    assert await stub.GetConversationStats(request) == before
    one = await stub.GetConversationStats(pb.GetConversationStatsRequest(conversation_id=thread))
    assert one.messages_by_direction["inbound"] == 2


async def test_no_more_than_a_few_counts_over_all_are_kept(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "_KEPT_WINDOWS", 2)
    counts = statistics.Statistics(database)
    windows = [statistics.Window(since=START + timedelta(days=day)) for day in range(4)]
    for window in windows:
        await counts.get(window)
    assert list(counts._kept) == windows[2:]
