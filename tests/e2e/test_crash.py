"""Whatever is killed in the middle of 2,000 sends, what was answered 202 is delivered, and only once."""

import asyncio
import signal
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.good_client import GoodClient, Job
from tests.e2e.stack import E2eStack, eventually

pytestmark = pytest.mark.integration

_SINGLES, _BATCHES, _BATCH_SIZE = 1000, 20, 50
_TOTAL = _SINGLES + _BATCHES * _BATCH_SIZE
_RECIPIENT = "+15559870004"
# A provider that takes its time, so that attempts are under way whenever a dispatcher dies, and that has
# not called back while they are.
_SLOW = {"type": "sms", "latency_ms": 200, "callback_delay_ms": 1000}
_QUICK = {"type": "sms", "callback_delay_ms": 100}


@pytest.fixture
def stack(own_stack: E2eStack) -> Iterator[E2eStack]:
    assert own_stack.http.put("/api/v1/simulator", json=_SLOW).status_code == 200
    yield own_stack
    assert own_stack.http.put("/api/v1/simulator", json=_QUICK).status_code == 200


def _kill_message(stack: E2eStack, client: GoodClient) -> None:
    with stack.frozen("message"):
        eventually(lambda: client.in_flight > 0, what="a send is under way")
        stack.kill("message")


def _kill_dispatch(stack: E2eStack, _client: GoodClient) -> None:
    eventually(lambda: _caught_in_the_act(stack), what="an attempt is under way")
    # No callback can come in and settle what the dispatcher leaves: somebody has to ask.
    with stack.frozen("gateway"):
        stack.kill("dispatch")
        eventually(
            lambda: stack.rows("SELECT count(*) FROM message_events WHERE type = 'unknown'") > [(0,)],
            what="what the dispatcher left is found",
        )


def _caught_in_the_act(stack: E2eStack) -> bool:
    """Hold the dispatcher still if it has attempts under way, for good."""
    stack.signal("dispatch", signal.SIGSTOP)
    if stack.rows("SELECT count(*) FROM messages WHERE state = 'sending'") > [(0,)]:
        return True
    stack.signal("dispatch", signal.SIGCONT)
    return False


def _lose_nats(stack: E2eStack, _client: GoodClient) -> None:
    # Nobody takes work out while it is held, so that the store has some to lose.
    with stack.frozen("dispatch"):
        eventually(lambda: _published(stack) >= 5, what="work waits in the store")
        stack.lose_broker()


def _published(stack: E2eStack) -> int:
    """Return the number of envelopes that are committed and not claimed, and old enough to be in NATS."""
    query = (
        "SELECT count(*) FROM outbox WHERE owner IS NULL AND subject LIKE 'posthouse.dispatch.%' "
        "AND create_time < now() - interval '100 milliseconds'"
    )
    count: int = stack.rows(query)[0][0]
    return count


def _jobs() -> list[Job]:
    """Return singles and batches, well mixed."""
    bodies = [f"message {number}" for number in range(_TOTAL)]
    jobs = [Job(f"single-{number}", [bodies[number]]) for number in range(_SINGLES)]
    every = _SINGLES // _BATCHES
    for number in range(_BATCHES):
        start = _SINGLES + number * _BATCH_SIZE
        jobs.insert(number * (every + 1), Job(f"batch-{number}", bodies[start : start + _BATCH_SIZE]))
    return jobs


_DISASTERS: tuple[Callable[[E2eStack, GoodClient], None], ...] = (_kill_message, _kill_dispatch, _lose_nats)


async def _send_through_disasters(stack: E2eStack, client: GoodClient) -> None:
    jobs = _jobs()
    part = len(jobs) // len(_DISASTERS) + 1
    for number, disaster in enumerate(_DISASTERS):
        chunk = jobs[number * part : (number + 1) * part]
        expected = len(client.accepted) + sum(len(job.bodies) for job in chunk)
        sending = asyncio.create_task(client.send(chunk))
        while len(client.accepted) < expected - _TOTAL // 6:
            assert not sending.done()
            await asyncio.sleep(0.005)
        await asyncio.to_thread(disaster, stack, client)
        await sending
        assert len(client.accepted) == expected


def test_nothing_is_lost_and_nothing_sent_twice(stack: E2eStack) -> None:
    client = GoodClient(stack.url, "+15551234567", [_RECIPIENT])
    asyncio.run(_send_through_disasters(stack, client))
    ids = list(client.accepted.values())
    assert len(set(ids)) == len(ids) == _TOTAL
    # A repeat after a crash must have found the row of the first.
    assert client.repeats > 0
    eventually(
        lambda: _states(stack) == {"delivered": _TOTAL}, what="all are delivered", report=stack.left_over
    )
    stack.await_rest()

    # Strictly once: a dispatcher's death leaves attempts unknown, and the simulator can tell what it has.
    assert set(stack.simulator.seen(ids).values()) == {1}
    _check_histories(stack)


def _states(stack: E2eStack) -> dict[str, int]:
    # By the recipient, not by the ids: a repeat that was stored as another message would show.
    query = "SELECT state, count(*) FROM messages WHERE recipient = %(recipient)s GROUP BY state"
    return dict(stack.rows(query, {"recipient": _RECIPIENT}))


def _check_histories(stack: E2eStack) -> None:
    """Every history tells acceptance and delivery once, without gaps."""
    histories: dict[str, list[tuple[int, str]]] = {}
    query = (
        "SELECT e.message_id::text, e.sequence, e.type FROM message_events e "
        "JOIN messages m ON m.id = e.message_id "
        "WHERE m.recipient = %(recipient)s ORDER BY e.message_id, e.sequence"
    )
    for message_id, sequence, kind in stack.rows(query, {"recipient": _RECIPIENT}):
        histories.setdefault(message_id, []).append((sequence, kind))
    assert len(histories) == _TOTAL
    for history in histories.values():
        assert [sequence for sequence, _ in history] == list(range(1, len(history) + 1))
        kinds = Counter(kind for _, kind in history)
        assert history[0][1] == "accepted"
        assert (kinds["accepted"], kinds["delivered"]) == (1, 1), history
