"""The coalescer: everyone gets their own answer, and nobody anybody else's failure."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.coalesce import Limits
from gateway.identity import Metadata
from gateway.joining import Sends, join_sends
from posthouse.v1 import message_service_pb2 as pb
from services.kit.errors import OverloadedError, PosthouseError, UnavailableError
from services.kit.status import RemoteError
from tests.unit.gateway.fakes import accept_all

ANN: Metadata = (("authorization", "Bearer ann"),)
BOB: Metadata = (("authorization", "Bearer bob"),)


class Calls:
    """Records every call, and lets the test decide when each one is answered."""

    def __init__(
        self, answer: Callable[[pb.SendMessagesRequest], Awaitable[pb.SendMessagesResponse]] = accept_all
    ) -> None:
        self.batches: list[list[str]] = []
        self.metadata: list[Metadata] = []
        self.gate = asyncio.Event()
        self._answer = answer

    async def __call__(self, request: pb.SendMessagesRequest, metadata: Metadata) -> pb.SendMessagesResponse:
        self.batches.append([each.body for each in request.requests])
        self.metadata.append(metadata)
        await self.gate.wait()
        return await self._answer(request)


def start(coalescer: Sends, name: str, *, caller: Metadata = ANN, size: int = 10) -> "asyncio.Task[str]":
    async def send() -> str:
        accepted = await coalescer.send(
            pb.SendMessageRequest(body=name), size=size, caller=caller, request_id=f"r-{name}"
        )
        return accepted.id

    return asyncio.create_task(send())


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_first_goes_at_once_and_later_ones_gather() -> None:
    calls = Calls()
    coalescer = join_sends(calls, Limits(calls_in_flight=1))
    tasks = [start(coalescer, "a")]
    await turns()
    assert calls.batches == [["a"]]
    tasks += [start(coalescer, name) for name in "bcd"]
    await turns()
    assert calls.batches == [["a"]]
    calls.gate.set()
    assert await asyncio.gather(*tasks) == ["id-a-0", "id-b-0", "id-c-0", "id-d-0"]
    assert calls.batches == [["a"], ["b", "c", "d"]]
    assert calls.metadata[1] == (("x-request-id", "r-b"), *ANN)


async def test_who_is_not_busy_waits_for_no_call() -> None:
    calls = Calls()
    coalescer = join_sends(calls, Limits(busy_size=3, patience=3600))
    tasks = [start(coalescer, "a")]
    await turns()
    tasks.append(start(coalescer, "b"))
    await turns()
    assert calls.batches == [["a"], ["b"]]
    calls.gate.set()
    await asyncio.gather(*tasks)


async def test_what_has_lost_its_patience_goes_out_beside_a_slow_call() -> None:
    calls = Calls()
    coalescer = join_sends(calls, Limits(patience=1, busy_size=1))
    tasks = [start(coalescer, "slow")]
    await turns()
    # Had they not waited, they would not be together.
    tasks += [start(coalescer, "b"), start(coalescer, "c")]
    async with asyncio.timeout(60):
        while len(calls.batches) < 2:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.001)
    assert calls.batches == [["slow"], ["b", "c"]]
    calls.gate.set()
    await asyncio.gather(*tasks)


async def test_a_full_batch_waits_for_no_call() -> None:
    calls = Calls()
    coalescer = join_sends(calls, Limits(batch_size=2, patience=3600, busy_size=1))
    tasks = [start(coalescer, "a")]
    await turns()
    tasks += [start(coalescer, name) for name in "bc"]
    await turns()
    assert calls.batches == [["a"], ["b", "c"]]
    calls.gate.set()
    await asyncio.gather(*tasks)


async def test_after_a_large_call_those_answered_may_join_the_next() -> None:
    calls = Calls()
    # Time enough for the one that comes again, however slow the machine is.
    coalescer = join_sends(calls, Limits(busy_size=2, linger=1.0, patience=3600))
    first = [start(coalescer, name) for name in "ab"]
    await turns()
    waiting = start(coalescer, "c")
    await turns()
    calls.gate.set()
    await asyncio.gather(*first)
    again = start(coalescer, "a again")
    await asyncio.gather(waiting, again)
    assert calls.batches == [["a", "b"], ["c", "a again"]]


async def test_nobody_is_waited_for_once_all_those_answered_have_come_again() -> None:
    calls = Calls()
    coalescer = join_sends(calls, Limits(busy_size=2, linger=3600, patience=3600))
    first = [start(coalescer, name) for name in "ab"]
    await turns()
    waiting = start(coalescer, "c")
    await turns()
    calls.gate.set()
    await asyncio.gather(*first)
    again = [start(coalescer, name) for name in ("a again", "b again")]
    async with asyncio.timeout(60):
        await asyncio.gather(waiting, *again)
    assert calls.batches == [["a", "b"], ["c", "a again", "b again"]]


async def test_close_does_not_linger() -> None:
    calls = Calls()
    calls.gate.set()
    coalescer = join_sends(calls, Limits(busy_size=1, linger=3600, patience=3600))
    await start(coalescer, "a")
    waiting = start(coalescer, "b")
    await turns()
    await coalescer.close()
    assert await waiting == "id-b-0"


async def test_no_more_calls_in_flight_than_allowed_and_no_larger_ones() -> None:
    calls = Calls()
    coalescer = join_sends(calls, Limits(calls_in_flight=2, batch_size=3))
    tasks = [start(coalescer, str(number)) for number in range(10)]
    await turns()
    assert [len(batch) for batch in calls.batches] == [3, 3]
    calls.gate.set()
    await asyncio.gather(*tasks)
    assert [len(batch) for batch in calls.batches] == [3, 3, 3, 1]


async def test_a_call_holds_no_more_bytes_than_allowed() -> None:
    calls = Calls()
    calls.gate.set()
    coalescer = join_sends(calls, Limits(batch_bytes=25))
    await asyncio.gather(
        *(start(coalescer, name, size=size) for name, size in [("a", 10), ("b", 10), ("c", 90)])
    )
    assert calls.batches == [["a", "b"], ["c"]]


async def test_close_waits_for_calls_in_flight() -> None:
    calls = Calls()
    coalescer = join_sends(calls)
    task = start(coalescer, "a")
    await turns()
    closing = asyncio.create_task(coalescer.close())
    await turns()
    assert not closing.done()
    calls.gate.set()
    await closing
    assert await task == "id-a-0"


async def test_callers_share_no_call() -> None:
    calls = Calls()
    calls.gate.set()
    coalescer = join_sends(calls)
    await asyncio.gather(
        *(start(coalescer, name, caller=who) for name, who in [("a", ANN), ("b", BOB), ("c", ANN)])
    )
    assert sorted(calls.batches) == [["a", "c"], ["b"]]
    assert {metadata[1:] for metadata in calls.metadata} == {ANN, BOB}
    assert not coalescer._lanes


async def test_failure_of_a_call_fails_its_waiters_only() -> None:
    async def answer(request: pb.SendMessagesRequest) -> pb.SendMessagesResponse:
        if any(each.body == "bad" for each in request.requests):
            raise UnavailableError("away")
        return await accept_all(request)

    calls = Calls(answer)
    calls.gate.set()
    coalescer = join_sends(calls, Limits(batch_size=2))
    tasks = [start(coalescer, name) for name in ("a", "b", "bad", "c", "d", "e")]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, UnavailableError) for result in results] == [
        False,
        False,
        True,
        True,
        False,
        False,
    ]


async def test_item_errors_reach_their_own_sender() -> None:
    async def answer(request: pb.SendMessagesRequest) -> pb.SendMessagesResponse:
        results = (await accept_all(request)).results
        results[1].error.CopyFrom(pb.ItemError(code=3, reason="INVALID_FIELD", message="no"))
        return pb.SendMessagesResponse(results=results)

    calls = Calls(answer)
    calls.gate.set()
    results = await asyncio.gather(
        *(start(coalescer, name) for coalescer in [join_sends(calls)] for name in "abc"),
        return_exceptions=True,
    )
    assert results[0] == "id-a-0"
    assert results[2] == "id-c-0"
    assert isinstance(results[1], RemoteError)


@pytest.mark.parametrize("fault", ["crash", "miscount", "cancel"])
async def test_a_broken_call_answers_everyone(fault: str) -> None:
    async def answer(_request: pb.SendMessagesRequest) -> pb.SendMessagesResponse:
        if fault == "crash":
            raise RuntimeError("secret")
        if fault == "cancel":
            raise asyncio.CancelledError
        return pb.SendMessagesResponse()

    calls = Calls(answer)
    calls.gate.set()
    coalescer = join_sends(calls)
    results = await asyncio.gather(*(start(coalescer, name) for name in "ab"), return_exceptions=True)
    assert all(isinstance(result, PosthouseError) and "secret" not in str(result) for result in results)


@pytest.mark.parametrize(
    "limits", [Limits(calls_in_flight=1, queue_size=2), Limits(calls_in_flight=1, queue_bytes=20)]
)
async def test_full_queue_refuses(limits: Limits) -> None:
    calls = Calls()
    coalescer = join_sends(calls, limits)
    tasks = [start(coalescer, "a")]
    await turns()
    tasks += [start(coalescer, name) for name in "bc"]
    await turns()
    with pytest.raises(OverloadedError) as refused:
        await coalescer.send(pb.SendMessageRequest(), size=10, caller=ANN, request_id="r")
    assert refused.value.retry_after
    calls.gate.set()
    assert len(await asyncio.gather(*tasks)) == 3
    assert await start(coalescer, "d") == "id-d-0"


async def test_a_waiter_that_leaves_takes_nothing_along() -> None:
    calls = Calls()
    coalescer = join_sends(calls, Limits(calls_in_flight=1))
    sent, neighbour = start(coalescer, "sent"), start(coalescer, "neighbour")
    await turns()
    unsent = start(coalescer, "unsent")
    await turns()
    sent.cancel()
    unsent.cancel()
    await turns()
    calls.gate.set()
    assert await neighbour == "id-neighbour-0"
    await coalescer.close()
    assert calls.batches == [["sent", "neighbour"]]
    assert coalescer._queued == coalescer._queued_bytes == 0
    assert not coalescer._lanes


@settings(max_examples=50, deadline=None)
@given(
    sends=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30), st.booleans()), max_size=60),
    limits=st.builds(
        Limits,
        batch_size=st.integers(1, 7),
        batch_bytes=st.integers(1, 60),
        calls_in_flight=st.integers(1, 4),
    ),
)
def test_each_gets_its_own(sends: list[tuple[int, int, bool]], limits: Limits) -> None:
    async def answer(request: pb.SendMessagesRequest) -> pb.SendMessagesResponse:
        await turns(len(request.requests) % 4)
        if any("poison" in each.body for each in request.requests):
            raise UnavailableError(" ".join(each.body for each in request.requests))
        return await accept_all(request)

    async def play() -> None:
        calls = Calls(answer)
        calls.gate.set()
        coalescer = join_sends(calls, limits)
        tasks = []
        for number, (caller, size, poison) in enumerate(sends):
            name = f"{'poison' if poison else 'm'}{number}."
            tasks.append((name, start(coalescer, name, caller=(("x-api-key", str(caller)),), size=size)))
            await turns(number % 3)
        for name, task in tasks:
            try:
                assert await task == f"id-{name}-0"
            except UnavailableError as error:
                assert name in str(error)  # noqa: PT017 - its own call failed, not another's
        assert sorted(body for batch in calls.batches for body in batch) == sorted(name for name, _ in tasks)
        assert all(len(batch) <= limits.batch_size for batch in calls.batches)

    asyncio.run(play())
