"""Each scenario of `make chaos` in a size that fits the suite: the same code, the same promises."""

import random
from collections.abc import Iterator

import pytest

from chaos import breaking, broker, budget, drains, kills, rates, resend, rolling, shares, watchers
from chaos.findings import Finding
from tests.e2e.stack import E2eStack, running_stack

pytestmark = pytest.mark.integration

_COOL_DOWN = 1.0
# It comes back sooner from whatever is done to it.
_SETTINGS = {
    "POSTHOUSE_SIMULATOR_PROFILE": '{"reply_rate": 0}',
    "POSTHOUSE_OUTBOX_REPUBLISH_AFTER": "2",
    "POSTHOUSE_DISPATCH_RETRY_BASE": "0.2",
    "POSTHOUSE_BREAKER_COOL_DOWN": str(_COOL_DOWN),
}


@pytest.fixture(scope="module")
def stack() -> Iterator[E2eStack]:
    with running_stack(_SETTINGS, ("--restart-pause", "0.2")) as running:
        yield running


@pytest.fixture(scope="module")
def senders() -> list[str]:
    return [f"+1555123{number:04d}" for number in range(100, 110)]


@pytest.fixture
def draw() -> random.Random:
    return random.Random(5)  # noqa: S311 - it plays accidents, it guards nothing


def _check(findings: list[Finding]) -> None:
    assert findings
    assert [finding for finding in findings if not finding.kept] == []


def test_nothing_is_lost_or_doubled_by_kills(
    stack: E2eStack, senders: list[str], draw: random.Random
) -> None:
    found = kills.run(stack, sender=senders.pop(), draw=draw, kills=6, messages=600, pause=0.4)
    _check(found)
    assert found[0].measured.startswith("6 SIGKILLs (")
    assert found[1].measured == "0 of 600"


def test_what_is_proved_absent_is_sent_again_and_nothing_else(
    stack: E2eStack, senders: list[str], draw: random.Random
) -> None:
    found = resend.run(stack, sender=senders.pop(), draw=draw, kills=3, messages=400, pause=0.4)
    _check(found)
    assert found[0].measured == "3 SIGKILLs (dispatch 3)"
    assert found[1].measured == "0 of 400"


def test_a_rollout_loses_nothing(stack: E2eStack, senders: list[str]) -> None:
    found = rolling.run(stack, sender=senders.pop(), rounds=1, rate=30)
    _check(found)
    assert found[0].measured.startswith("1 restarts of each of 4 processes")


def test_the_loss_of_the_broker_costs_seconds(
    stack: E2eStack, senders: list[str], draw: random.Random
) -> None:
    # How many it costs is for a quiet machine to say.
    found = broker.run(stack, sender=senders.pop(), draw=draw, losses=1, rate=50, promised=300.0)
    _check(found)


def test_a_stop_finishes_what_is_under_way(stack: E2eStack, senders: list[str], draw: random.Random) -> None:
    _check(drains.run(stack, sender=senders.pop(), draw=draw, sigterms=2, rate=50))


def test_the_breaker_opens_is_shared_and_closes(stack: E2eStack, senders: list[str]) -> None:
    _check(breaking.run(stack, sender=senders.pop(), cool_down=_COOL_DOWN, promised=300.0))


def test_two_dispatchers_keep_the_order_of_conversations(stack: E2eStack, senders: list[str]) -> None:
    sender, recipients = senders.pop(), [f"+1555610{number:04d}" for number in range(5)]
    stack.simulate(latency_ms=20, callback_delay_ms=50)
    sent: dict[str, list[str]] = {recipient: [] for recipient in recipients}
    with stack.second_dispatcher():
        for number in range(20):
            for recipient in recipients:
                body = {"from": sender, "to": recipient, "body": f"{number}"}
                answer = stack.http.post("/api/v1/messages/send", json=body)
                assert answer.status_code == 202, answer.text
                sent[recipient].append(answer.json()["id"])
        stack.await_rest(timeout=120)
    # What the simulator remembers is in the order in which it took it.
    for recipient, ids in sent.items():
        assert [one.message_id for one in stack.simulator.remembered(ids)] == ids, recipient


def test_faults_have_the_shares_asked_for(stack: E2eStack, senders: list[str]) -> None:
    _check(shares.run(stack, sender=senders.pop(), messages=1200))


def test_a_provider_that_is_down_is_left_in_peace(stack: E2eStack, senders: list[str]) -> None:
    found = budget.run(stack, sender=senders.pop(), waiting=2000, window=3.0, windows=1, slack=budget.IN_HAND)
    _check(found)


def test_watchers_see_everything_once(stack: E2eStack, senders: list[str], draw: random.Random) -> None:
    found = watchers.run(
        stack, sender=senders.pop(), draw=draw, resumes=5, rate=20, pause=0.5, idle=200, each=1
    )
    _check(found)


def test_failures_cost_no_more_than_their_share(stack: E2eStack) -> None:
    # A fraction of what is promised: a moment on a busy machine proves no rate.
    _check(rates.run(stack, seconds=2.0, floor=0.1))
