"""Idempotent sends through a real server: one key, one row, one answer."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from posthouse.v1 import message_pb2
from posthouse.v1 import message_service_pb2 as pb
from services.kit.status import RemoteError
from services.ledger.database import Database
from services.ledger.drafts import Draft
from services.ledger.erasing import delete_messages
from services.message import sending
from tests.integration.ledger.rows import CONTACT, OURS, Book, eventually

from .conftest import StartProcess
from .outage import answers_again, database_away

pytestmark = pytest.mark.integration

Refused = Callable[[Any], Awaitable[RemoteError]]

_COUNTS = (
    "SELECT (SELECT count(*) FROM messages), (SELECT count(*) FROM message_events),"
    " (SELECT count(*) FROM idempotency_keys),"
    " (SELECT coalesce(sum(message_count), 0)::int FROM conversations)"
)


_ANN = (("x-api-key", "ann"),)


def _request(request_id: str = "", body: str = "hello", **fields: Any) -> pb.SendMessageRequest:
    return pb.SendMessageRequest(sender=OURS, recipient=CONTACT, body=body, request_id=request_id, **fields)


async def _send(stub: Any, request: pb.SendMessageRequest, key: str = "ann") -> pb.AcceptedMessage:
    answer = await stub.SendMessage(request, metadata=(("x-api-key", key),))
    return answer.message  # type: ignore[no-any-return]


def _same(answers: list[pb.AcceptedMessage]) -> bool:
    """Tell whether answers are the same but for `replayed`, which all but one must say."""
    bare = []
    for answer in answers:
        one = pb.AcceptedMessage()
        one.CopyFrom(answer)
        one.replayed = False
        bare.append(one.SerializeToString(deterministic=True))
    return len(set(bare)) == 1 and [answer.replayed for answer in answers].count(False) == 1


async def test_an_answer_says_what_was_committed(stub: Any, book: Book) -> None:
    answer = await _send(stub, _request("key", body="héllo ✓"))
    ((create_time, conversation),) = await book.rows(
        "SELECT create_time, conversation_id::text FROM messages WHERE id = %s", answer.id
    )
    assert answer.create_time.ToDatetime(UTC) == create_time
    assert answer.conversation_id == conversation
    assert (answer.state, answer.channel, answer.segment_count, answer.segment_encoding, answer.replayed) == (
        message_pb2.MESSAGE_STATE_PENDING,
        message_pb2.CHANNEL_SMS,
        1,
        message_pb2.SEGMENT_ENCODING_UCS2,
        False,
    )


async def test_fifty_repeats_one_after_the_other(stub: Any, book: Book) -> None:
    answers = [await _send(stub, _request("key")) for _ in range(51)]
    assert not answers[0].replayed
    assert _same(answers)
    assert await book.rows(_COUNTS) == [(1, 1, 1, 1)]


async def test_fifty_repeats_at_once(stub: Any, book: Book) -> None:
    answers = await asyncio.gather(*(_send(stub, _request("key")) for _ in range(50)))
    assert _same(list(answers))
    assert await book.rows(_COUNTS) == [(1, 1, 1, 1)]


async def test_two_processes_race_for_the_same_keys(start_process: StartProcess, book: Book) -> None:
    stubs = [await start_process(), await start_process()]
    keys = [f"key-{number}" for number in range(15)]
    answers = await asyncio.gather(
        *(_send(stub, _request(key)) for key in keys for _ in range(3) for stub in stubs)
    )
    for number in range(len(keys)):
        assert _same(list(answers[number * 6 : number * 6 + 6]))
    assert await book.rows(_COUNTS) == [(15, 15, 15, 15)]


async def test_two_processes_race_with_whole_batches(start_process: StartProcess, book: Book) -> None:
    stubs = [await start_process(), await start_process()]
    # In opposite orders, so that each waits for what the other has.
    keys = [f"key-{number}" for number in range(100)]
    batches = [[_request(key) for key in keys], [_request(key) for key in reversed(keys)]]
    results = await asyncio.gather(
        *(
            stub.SendMessages(pb.SendMessagesRequest(requests=batch))
            for stub, batch in zip(stubs, batches, strict=True)
        )
    )
    first = [result.message for result in results[0].results]
    second = [result.message for result in reversed(results[1].results)]
    assert all(_same(list(pair)) for pair in zip(first, second, strict=True))
    assert await book.rows(_COUNTS) == [(100, 100, 100, 100)]


async def test_another_payload_under_the_key_is_refused(stub: Any, book: Book, refusal: Refused) -> None:
    first = await _send(stub, _request("key"))
    for changed in (
        _request("key", body="other"),
        _request("key", priority="PRIORITY_HIGH"),
        _request("key", metadata={"a": "b"}),
    ):
        error = await refusal(_send(stub, changed))
        assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "IDEMPOTENCY_KEY_REUSED")
        assert [violation.field for violation in error.violations] == ["request_id"]
        assert "'key'" in error.message
    assert (await _send(stub, _request("key"))).id == first.id
    assert await book.rows(_COUNTS) == [(1, 1, 1, 1)]


async def test_another_payload_at_the_same_time_is_refused(stub: Any, book: Book) -> None:
    batch = [_request("key"), _request("key", body="other"), _request("key")]
    results = (await stub.SendMessages(pb.SendMessagesRequest(requests=batch))).results
    assert results[1].error.reason == "IDEMPOTENCY_KEY_REUSED"
    assert _same([results[0].message, results[2].message])
    assert await book.rows(_COUNTS) == [(1, 1, 1, 1)]


async def test_the_same_key_of_another_caller_is_another_message(stub: Any, book: Book) -> None:
    answers = [await _send(stub, _request("key"), caller) for caller in ("ann", "bob", "ann")]
    assert answers[0].id == answers[2].id != answers[1].id
    assert [answer.replayed for answer in answers] == [False, False, True]
    assert await book.rows(_COUNTS) == [(2, 2, 2, 2)]


async def test_messages_without_a_key_are_never_repeats(stub: Any, book: Book) -> None:
    answers = await asyncio.gather(*(_send(stub, _request()) for _ in range(5)))
    assert len({answer.id for answer in answers}) == 5
    assert await book.rows(_COUNTS) == [(5, 5, 0, 5)]


async def test_a_batch_is_answered_item_by_item(stub: Any, book: Book) -> None:
    await _send(stub, _request("old"))
    bad = _request("bad")
    bad.recipient = "nobody"
    batch = [_request("old"), bad, _request("new"), _request("new"), _request()]
    call = stub.SendMessages(pb.SendMessagesRequest(requests=batch), metadata=(("x-api-key", "ann"),))
    results = (await call).results
    assert [result.WhichOneof("result") for result in results] == [
        *["message", "error", "message", "message", "message"]
    ]
    assert [result.message.replayed for result in results] == [True, False, False, True, False]
    error = results[1].error
    assert (error.code, error.reason) == (3, "INVALID_FIELD")
    assert [violation.field for violation in error.field_violations] == ["recipient"]
    assert await book.rows(_COUNTS) == [(3, 3, 2, 3)]
    # A refusal uses up no key.
    bad.recipient = CONTACT
    assert not (await _send(stub, bad)).replayed


async def test_a_repeat_of_a_scheduled_send_is_answered_alike(stub: Any, book: Book) -> None:
    due = Timestamp()
    due.FromDatetime(datetime.now(UTC) + timedelta(hours=1, microseconds=7))
    answers = [await _send(stub, _request("key", send_time=due)) for _ in range(3)]
    assert _same(answers)
    assert answers[0].state == message_pb2.MESSAGE_STATE_SCHEDULED
    assert answers[0].send_time == due
    # What became of it since does not change the answer.
    await stub.CancelMessage(pb.CancelMessageRequest(message_id=answers[0].id))
    assert _same([*answers, await _send(stub, _request("key", send_time=due))])
    assert await book.state(answers[0].id) == "cancelled"


async def test_a_caller_that_hangs_up_has_sent_all_the_same(
    stub: Any, book: Book, database: Database, refusal: Refused
) -> None:
    async with database.hot() as connection, connection.transaction():
        await connection.execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
        call = stub.SendMessage(_request("key"), metadata=(("x-api-key", "ann"),))

        async def is_waiting() -> bool:
            return bool(await book.value("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted"))

        await eventually(is_waiting)
        waiting = asyncio.create_task(_send(stub, _request("key")))
        # It is behind the second on the same connection: once it is answered, the second waits for the first.
        await refusal(stub.GetMessage(pb.GetMessageRequest(message_id="")))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await refusal(stub.GetMessage(pb.GetMessageRequest(message_id="")))
    # Its answer is still that of everybody else under the key.
    assert (await waiting).replayed
    assert await book.rows(_COUNTS) == [(1, 1, 1, 1)]


async def test_without_postgresql_a_send_is_refused_and_its_key_stays_free(
    stub: Any, book: Book, database_url: str, refusal: Refused
) -> None:
    await _send(stub, _request("before"))
    with database_away(database_url):
        error = await refusal(_send(stub, _request("key")))
        assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "DEPENDENCY_UNAVAILABLE")
        assert error.retry_after

    async def answered() -> list[bool]:
        try:
            return [(await _send(stub, _request("key"))).replayed]
        except grpc.aio.AioRpcError as again:
            assert again.code() is grpc.StatusCode.UNAVAILABLE  # noqa: PT017 - until its pool has recovered
            return []

    assert await eventually(answered) == [False]
    await eventually(lambda: answers_again(book))
    assert await book.rows(_COUNTS) == [(2, 2, 2, 2)]


async def test_a_fault_of_ours_in_one_check_leaves_its_neighbours_and_their_keys_alone(
    stub: Any, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = sending.check_send

    def faulty(request: pb.SendMessageRequest, **options: Any) -> Draft:
        if request.body == "boom":
            raise ZeroDivisionError
        return check(request, **options)

    monkeypatch.setattr(sending, "check_send", faulty)
    batch = pb.SendMessagesRequest(requests=[_request("first"), _request("second", body="boom")])
    async with asyncio.timeout(60):
        results = (await stub.SendMessages(batch)).results
        assert (results[0].message.replayed, results[1].error.reason) == (False, "INTERNAL")
        monkeypatch.undo()
        results = (await stub.SendMessages(batch)).results
    assert [result.message.replayed for result in results] == [True, False]
    assert await book.rows(_COUNTS) == [(2, 2, 2, 2)]


async def test_a_repeat_is_answered_as_before_whatever_would_refuse_it_now(
    stub: Any, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = _request("key", expire_time=datetime.now(UTC) + timedelta(hours=1))
    first = await _send(stub, request)
    check = sending.check_send

    def later(request: pb.SendMessageRequest, *, now: datetime, **options: Any) -> Draft:
        return check(request, now=now + timedelta(hours=2), **options)

    monkeypatch.setattr(sending, "check_send", later)
    again = await _send(stub, request)
    assert _same([first, again])
    # The key of another caller, another payload, no key: what has expired is refused.
    request.body = "another"
    results = (
        await stub.SendMessages(pb.SendMessagesRequest(requests=[request, request]), metadata=_ANN)
    ).results
    assert [result.error.reason for result in results] == ["IDEMPOTENCY_KEY_REUSED"] * 2
    for unknown in ("", "new", "not a key"):
        request.request_id = unknown
        (result,) = (
            await stub.SendMessages(pb.SendMessagesRequest(requests=[request]), metadata=_ANN)
        ).results
        assert result.error.field_violations[0].field == "expire_time"
    assert await book.rows(_COUNTS) == [(1, 1, 1, 1)]


async def test_a_key_whose_message_is_erased_says_so_for_as_long_as_it_is_kept(
    stub: Any, database: Database, book: Book, refusal: Refused
) -> None:
    first = await _send(stub, _request("key"))
    async with database.hot() as connection:
        await delete_messages(connection, [first.id])
    batch = pb.SendMessagesRequest(
        requests=[
            _request("key"),
            _request("key", body="another"),
            # Refused by itself, were it not for its key.
            _request("key", expire_time=datetime(2020, 1, 1, tzinfo=UTC)),
            _request("new"),
        ]
    )
    for _ in range(2):
        error = await refusal(_send(stub, _request("key")))
        assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MESSAGE_ERASED")
        assert [violation.field for violation in error.violations] == ["request_id"]
        assert (error.retry_after, "'key'" in error.message) == (None, True)
        results = (await stub.SendMessages(batch, metadata=_ANN)).results
        assert [result.error.reason for result in results] == [
            "MESSAGE_ERASED", "IDEMPOTENCY_KEY_REUSED", "IDEMPOTENCY_KEY_REUSED", ""
        ]  # fmt: skip
    preview = pb.PreviewMessageRequest(message=_request("key"))
    shown = await stub.PreviewMessage(preview, metadata=_ANN)
    assert (shown.acceptable, [each.reason for each in shown.refusals]) == (False, ["MESSAGE_ERASED"])
    assert await book.rows(_COUNTS) == [(1, 1, 2, 1)]
