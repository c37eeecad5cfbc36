"""Given-up messages are put back by hand, once, and have all their attempts again."""

import asyncio

import grpc
import pytest

from posthouse.v1 import dispatch_service_pb2 as pb
from services.kit.ids import new_id
from services.kit.status import from_rpc_error
from services.providers.base import Accepted, Rejected, Retryable

from .house import House
from .scripted import ScriptedProvider
from .steering import steering

pytestmark = pytest.mark.integration


async def test_a_replayed_message_is_sent_with_a_fresh_allowance(
    house: House, provider: ScriptedProvider
) -> None:
    provider.scripts = {"never": [Retryable("503")] * 5 + [Accepted("P6")]}
    running = await house.dispatch()
    (never,) = await house.send("never", priority="PRIORITY_HIGH")
    await house.until("failed", never)
    assert provider.attempts() == {"never": 3}
    async with steering(running) as stub:
        answer = await stub.ReplayDeadLetters(pb.ReplayDeadLettersRequest(message_ids=[never, never]))
        assert list(answer.replayed_message_ids) == [never]
        await house.until("sent", never)
        again = await stub.ReplayDeadLetters(pb.ReplayDeadLettersRequest(message_ids=[never]))
        assert list(again.replayed_message_ids) == []
        # Attempts 4, 5 and 6: the third since the replay is still allowed.
        assert provider.attempts() == {"never": 6}
        listed = await stub.ListDeadLetters(pb.ListDeadLettersRequest())
        assert list(listed.dead_letters) == []
        listed = await stub.ListDeadLetters(pb.ListDeadLettersRequest(include_replayed=True))
        assert listed.dead_letters[0].HasField("replay_time")
    story = await house.book.story(never)
    assert story[6:9] == ["failed", "replayed", "sending"]
    assert story[-1] == "sent"
    await house.until_outbox_is_empty()


async def test_a_replay_ends_in_a_dead_letter_again_and_can_be_replayed_again(
    house: House, provider: ScriptedProvider
) -> None:
    provider.scripts = {"never": [Retryable("503")]}
    running = await house.dispatch()
    (never,) = await house.send("never")
    async with steering(running) as stub:
        for round_number in (1, 2, 3):
            await house.until("failed", never)
            assert await house.book.rows("SELECT attempt_count, replay_time FROM dead_letters") == [
                (3 * round_number, None)
            ]
            assert provider.attempts() == {"never": 3 * round_number}
            await stub.ReplayDeadLetters(pb.ReplayDeadLettersRequest(message_ids=[never]))


async def test_concurrent_replays_put_each_message_back_once(
    house: House, provider: ScriptedProvider
) -> None:
    provider.scripts = {"no": [Rejected("21211"), Accepted("P2")]}
    running = await house.dispatch()
    ids = await house.send(*["no"] * 20)
    await house.until("failed", *ids)
    orders = (ids, ids[::-1], ids[5:], ids[:15][::-1])
    blocker = await house.database.connect()
    async with steering(running) as stub, blocker:
        # All of them have read the messages as failed before the first may change one.
        await blocker.execute("BEGIN")
        await blocker.execute("SELECT FROM messages FOR UPDATE")
        replays = [
            asyncio.ensure_future(stub.ReplayDeadLetters(pb.ReplayDeadLettersRequest(message_ids=order)))
            for order in orders
        ]
        await house.until_true(
            "SELECT count(*) = 4 FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        await blocker.execute("COMMIT")
        answers = await asyncio.gather(*replays)
    assert sorted(one for answer in answers for one in answer.replayed_message_ids) == sorted(ids)
    await house.until("sent", *ids)
    assert provider.attempts() == {"no": 40}
    await house.until_outbox_is_empty()


async def test_what_has_expired_stays_where_it_is(house: House, provider: ScriptedProvider) -> None:
    provider.scripts = {"no": [Rejected("21211")]}
    running = await house.dispatch()
    (no,) = await house.send("no")
    await house.until("failed", no)
    await house.book.rows("UPDATE messages SET expire_time = now() - interval '1 s' WHERE id = %s", no)
    async with steering(running) as stub:
        answer = await stub.ReplayDeadLetters(pb.ReplayDeadLettersRequest(message_ids=[no]))
    assert list(answer.replayed_message_ids) == []
    assert await house.book.state(no) == "failed"
    assert await house.book.value("SELECT replay_time FROM dead_letters") is None


@pytest.mark.parametrize(
    ("ids", "code", "reason"),
    [
        ([], grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        (["x"], grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        ([new_id()], grpc.StatusCode.NOT_FOUND, "DEAD_LETTER_NOT_FOUND"),
        ([new_id()] * 1001, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
    ],
)
async def test_a_wrong_replay_is_refused(
    house: House, ids: list[str], code: grpc.StatusCode, reason: str
) -> None:
    running = await house.dispatch()
    async with steering(running) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ReplayDeadLetters(pb.ReplayDeadLettersRequest(message_ids=ids))
    error = from_rpc_error(caught.value)
    assert (error.code, error.reason) == (code, reason)
