"""Given-up messages are put back by hand, once, and have all their attempts again."""

import asyncio
import os
import sys
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from posthouse.v1 import dispatch_service_pb2 as pb
from posthouse.v1.message_pb2 import CHANNEL_EMAIL, CHANNEL_SMS
from services.dispatch import intervening
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


async def _three_kinds(house: House, provider: ScriptedProvider) -> tuple[str, str, str]:
    """Have messages be given up one after the other: two of SMS with codes of their own, one of e-mail."""
    provider.scripts = {
        "first": [Rejected("21211"), Accepted("P1")],
        "second": [Rejected("30007"), Accepted("P2")],
        "third": [Rejected("21211"), Accepted("P3")],
    }
    (first,) = await house.send("first")
    await house.until("failed", first)
    (second,) = await house.send("second")
    await house.until("failed", second)
    (third,) = await house.send("third", sender="us@example.com", recipient="them@example.org")
    await house.until("failed", third)
    return first, second, third


async def test_lists_are_narrowed(house: House, provider: ScriptedProvider) -> None:
    running = await house.dispatch()
    first, second, third = await _three_kinds(house, provider)

    async with steering(running) as stub:

        async def listed(**given: Any) -> list[str]:
            answer = await stub.ListDeadLetters(pb.ListDeadLettersRequest(**given))
            return [letter.message_id for letter in answer.dead_letters]

        everything = (await stub.ListDeadLetters(pb.ListDeadLettersRequest())).dead_letters
        middle = everything[1].create_time
        assert [letter.message_id for letter in everything] == [third, second, first]
        assert await listed(channel=CHANNEL_EMAIL) == [third]
        assert await listed(error_code="21211") == [third, first]
        assert await listed(error_code="21211", channel=CHANNEL_SMS) == [first]
        assert await listed(provider="scripted") == [third, second, first]
        assert await listed(provider="second") == []
        assert await listed(reason="expired") == []
        assert await listed(since_time=middle) == [third, second]
        assert await listed(until_time=middle) == [first]
        page = await stub.ListDeadLetters(pb.ListDeadLettersRequest(page_size=1, error_code="21211"))
        assert [letter.message_id for letter in page.dead_letters] == [third]
        assert await listed(page_token=page.next_page_token, error_code="21211") == [first]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await listed(page_token=page.next_page_token, error_code="30007")
    assert from_rpc_error(caught.value).reason == "INVALID_PAGE_TOKEN"


async def test_a_filter_is_replayed_a_thousand_at_a_time(
    house: House, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await house.dispatch()
    first, second, third = await _three_kinds(house, provider)
    monkeypatch.setattr(intervening, "MOST_REPLAYED", 1)
    async with steering(running) as stub:
        request = pb.ReplayDeadLettersRequest(filter=pb.DeadLetterFilter(error_code="21211"))
        answers = [await stub.ReplayDeadLetters(request) for _ in range(3)]
    # The eldest first, and each once.
    assert [(list(one.replayed_message_ids), one.replayed_count, one.more) for one in answers] == [
        ([first], 1, True),
        ([third], 1, False),
        ([], 0, False),
    ]
    await house.until("sent", first, third)
    assert await house.book.state(second) == "failed"
    assert provider.attempts() == {"first": 2, "second": 1, "third": 2}


async def test_a_filter_leaves_what_has_expired(house: House, provider: ScriptedProvider) -> None:
    running = await house.dispatch()
    first, second, third = await _three_kinds(house, provider)
    await house.book.rows("UPDATE messages SET expire_time = now() - interval '1 s' WHERE id = %s", first)
    chosen = pb.DeadLetterFilter(provider="scripted")
    async with steering(running) as stub:
        answer = await stub.ReplayDeadLetters(pb.ReplayDeadLettersRequest(filter=chosen))
    assert (list(answer.replayed_message_ids), answer.more) == (sorted([second, third]), False)


async def test_the_command_line_lists_and_replays(house: House, provider: ScriptedProvider) -> None:
    await house.dispatch()
    first, second, third = await _three_kinds(house, provider)
    command = [sys.executable, "-m", "cli.main", "dead-letters"]
    environment = {**os.environ, "DATABASE_URL": house.settings.database_url}

    async def posthouse(*words: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *command, *words, env=environment, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        assert process.returncode == 0
        return output.decode()

    lines = (await posthouse("list", "--error-code", "21211", "--limit", "2")).splitlines()
    assert [line.split()[0] for line in lines] == [third, first]
    assert "sms  scripted  rejected  21211" in lines[1]
    assert await posthouse("replay", second, third, second) == "Replayed 2.\n"
    await house.until("sent", second, third)
    assert await posthouse("replay", "--provider", "scripted") == "Replayed 1.\n"
    await house.until("sent", first)
    assert (await posthouse("list", "--include-replayed")).count("replayed 20") == 3
    assert provider.attempts() == {"first": 2, "second": 2, "third": 2}


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


async def test_wrong_replays_are_refused(house: House) -> None:
    unknown = new_id()
    invalid = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    running = await house.dispatch()
    async with steering(running) as stub:

        async def refusal(**given: Any) -> tuple[Any, str, list[str]]:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.ReplayDeadLetters(pb.ReplayDeadLettersRequest(**given))
            error = from_rpc_error(caught.value)
            return error.code, error.reason, [violation.field for violation in error.violations]

        assert await refusal() == (*invalid, ["message_ids"])
        assert await refusal(message_ids=["x"]) == (*invalid, ["message_ids[0]"])
        assert await refusal(message_ids=[unknown] * 1001) == (*invalid, ["message_ids"])
        assert await refusal(filter=pb.DeadLetterFilter()) == (*invalid, ["filter"])
        both = pb.DeadLetterFilter(provider="scripted")
        assert await refusal(message_ids=[unknown], filter=both) == (*invalid, ["filter"])
        nul = pb.DeadLetterFilter(error_code="\x00")
        assert await refusal(filter=nul) == (*invalid, ["filter.error_code"])
        never = pb.DeadLetterFilter(since_time=Timestamp(seconds=2**60))
        assert await refusal(filter=never) == (*invalid, ["filter.since_time"])
        missing = (grpc.StatusCode.NOT_FOUND, "DEAD_LETTER_NOT_FOUND", [])
        assert await refusal(message_ids=[unknown]) == missing
