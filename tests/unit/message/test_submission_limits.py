"""A batch is admitted message by message: per client, per sender, per address, whatever its size."""

import pytest

from services.kit.errors import RateLimitedError
from services.kit.rate_limit_clients import Client
from services.kit.rate_limits import UNLIMITED, RateLimiter
from services.kit.sliding_window import MemoryWindows
from services.message.submission_limits import SubmissionLimiter

ALICE, BOB = Client("key:alice", "198.51.100.1"), Client("key:bob", "198.51.100.2")
CAROL = Client("key:carol", ALICE.address)
BULK = Client("key:bulk", ALICE.address, limit=1000)
HERE, THERE = "+15551234567", "+15551234568"


@pytest.fixture
def limits() -> SubmissionLimiter:
    return SubmissionLimiter(
        RateLimiter(MemoryWindows(60), 60), requests=10, sender_requests=6, ip_requests=14
    )


def shape(answers: list[RateLimitedError | None]) -> str:
    """Return a letter per message: . for one that may pass, else what refuses it."""
    words = ("client", "sender", "network")
    return "".join(
        "." if answer is None else next(word[0] for word in words if word in answer.message)
        for answer in answers
    )


async def test_a_batch_costs_its_messages_and_the_first_ones_pass(limits: SubmissionLimiter) -> None:
    assert shape(await limits.take(ALICE, [HERE] * 8)) == "......ss"
    assert shape(await limits.take(ALICE, [THERE] * 6)) == "....cc"


async def test_senders_of_a_batch_are_judged_apart_and_answered_in_order(limits: SubmissionLimiter) -> None:
    await limits.take(BOB, [HERE] * 6)
    assert shape(await limits.take(ALICE, [HERE, THERE] * 5)) == "s." * 5


async def test_what_one_limit_refuses_costs_the_others_nothing(limits: SubmissionLimiter) -> None:
    await limits.take(BOB, [HERE] * 6)
    assert shape(await limits.take(ALICE, [HERE] * 50)) == "s" * 50
    assert shape(await limits.take(ALICE, ["a"] * 5 + ["b"] * 5)) == "." * 10
    # And what the client may not send is not held against the sender.
    assert shape(await limits.take(ALICE, [THERE] * 6)) == "c" * 6
    assert shape(await limits.take(BOB, [THERE] * 4)) == "...."


async def test_a_sender_is_limited_across_clients_and_an_address_across_keys(
    limits: SubmissionLimiter,
) -> None:
    assert shape(await limits.take(ALICE, [HERE] * 5)) == "....."
    assert shape(await limits.take(BOB, [HERE] * 3)) == ".ss"
    await limits.take(ALICE, ["a"] * 5)
    assert shape(await limits.take(CAROL, ["b"] * 6)) == "....nn"


async def test_bulk_senders_meet_their_own_limit_and_use_up_nobody_elses(limits: SubmissionLimiter) -> None:
    answers = await limits.take(BULK, [HERE] * 1001)
    assert shape(answers) == "." * 1000 + "s"
    assert shape(await limits.take(ALICE, [HERE] * 6)) == "......"


async def test_a_refusal_names_its_limit_and_when_to_come_back(limits: SubmissionLimiter) -> None:
    *_, error = await limits.take(ALICE, [HERE] * 7)
    assert error is not None
    assert error.reason == "RATE_LIMITED"
    assert error.message == "the limit of 6 messages per 60 s from this sender is used up"
    assert [violation.field for violation in error.violations] == ["sender"]
    assert error.retry_after == pytest.approx(60, abs=0.1)
    assert [quota.subject for quota in error.quotas] == [HERE]


async def test_what_was_not_stored_is_given_back(limits: SubmissionLimiter) -> None:
    await limits.take(ALICE, [HERE] * 6)
    await limits.give_back(ALICE, [HERE] * 4)
    assert shape(await limits.take(ALICE, [HERE] * 5)) == "....s"
    assert shape(await limits.take(ALICE, [THERE] * 5)) == "....c"


async def test_peeking_shows_the_tightest_and_takes_nothing(limits: SubmissionLimiter) -> None:
    for _ in range(20):
        verdict = await limits.peek(ALICE, HERE)
        assert (verdict.allowed, verdict.limit, verdict.remaining, verdict.scope) == (True, 6, 6, "sender")
    assert (await limits.peek(ALICE, "")).limit == 10
    await limits.take(ALICE, [HERE] * 6)
    verdict = await limits.peek(ALICE, HERE)
    assert (verdict.allowed, verdict.remaining) == (False, 0)
    assert 0 < verdict.reset_seconds <= 60
    assert (await limits.peek(ALICE, THERE)).allowed
    await limits.take(CAROL, ["a"] * 4 + ["b"] * 4)
    assert not (await limits.peek(BOB, THERE, CAROL.address)).allowed
    assert (await limits.peek(BOB, THERE)).allowed


async def test_switched_off_everything_passes() -> None:
    limits = SubmissionLimiter(None, requests=1, sender_requests=1, ip_requests=1)
    assert shape(await limits.take(ALICE, [HERE] * 50)) == "." * 50
    await limits.give_back(ALICE, [HERE])
    assert await limits.peek(ALICE, HERE) == UNLIMITED
