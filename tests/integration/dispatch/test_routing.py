"""The next provider of a route: when it gets a message, when it does not, and what the attempts say."""

import pytest

from services.kit.config import Settings
from services.providers.base import Absent, Accepted, Found, Rejected, Retryable, Unknown

from .house import House
from .scripted import ScriptedProvider
from .steering import BOTH, SecondProvider, install

pytestmark = pytest.mark.integration

_DUE = "UPDATE outbox SET due_time = now() WHERE subject LIKE 'posthouse.dispatch.%%' RETURNING true"
_LANES = "SELECT DISTINCT subject FROM outbox WHERE subject LIKE 'posthouse.dispatch.%%'"
_ATTEMPTS = (
    "SELECT number, provider, outcome, route_reason FROM dispatch_attempts"
    " WHERE message_id = %s ORDER BY number"
)
_FIRST = "position 1 of the route of sms"
_SECOND = "position 2 of the route of sms"


@pytest.fixture
def second(
    provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch, impatient: Settings
) -> SecondProvider:
    # After it has put its own in place.
    assert impatient
    return install(monkeypatch, provider)


async def test_a_fault_of_the_provider_leads_to_the_next(
    house: House, provider: ScriptedProvider, second: SecondProvider
) -> None:
    fault = Rejected("20003", "credentials", provider_fault=True)
    provider.scripts = {"both": [fault], "one": [fault], "plain": [Rejected("21211")]}
    second.scripts = {"both": [fault]}
    await house.dispatch(routes=BOTH)
    one, both, plain = await house.send("one", "both", "plain")
    await house.until("sent", one)
    await house.until("failed", both, plain)
    assert await house.book.rows(_ATTEMPTS, one) == [
        (1, "scripted", "rejected", _FIRST),
        (2, "second", "accepted", f"{_SECOND}; scripted refused it for a fault of its own"),
    ]
    assert await house.book.story(one) == ["accepted", "sending", "retrying", "sending", "sent"]
    assert (provider.attempts()["both"], second.attempts()["both"]) == (1, 1)
    assert "plain" not in second.bodies
    await house.until_outbox_is_empty()


@pytest.mark.usefixtures("second")
async def test_failures_in_a_row_lead_to_the_next_over_a_restart(
    house: House, provider: ScriptedProvider
) -> None:
    provider.scripts = {"busy": [Retryable("503")]}
    settings = {"routes": BOTH, "dispatch_failover_after": 1}
    running = await house.dispatch(**settings, dispatch_retry_base=1.5, dispatch_retry_max=1.5)
    (busy,) = await house.send("busy")
    await house.until_true("SELECT count(*) = 1 FROM dispatch_attempts")
    await running.close()
    await house.dispatch(**settings)
    await house.until("sent", busy)
    assert await house.book.rows(_ATTEMPTS, busy) == [
        (1, "scripted", "retryable", _FIRST),
        (2, "second", "accepted", f"{_SECOND}; scripted failed 1 times"),
    ]


async def test_nothing_fails_over_while_its_outcome_is_unknown(
    house: House, provider: ScriptedProvider, second: SecondProvider
) -> None:
    provider.scripts = {"has it": [Unknown("timeout")], "lost": [Unknown("timeout")]}
    provider.answers = {"has it": [Found("P1")], "lost": [Absent()]}
    await house.dispatch(routes=BOTH, dispatch_failover_after=1)
    has_it, lost = await house.send("has it", "lost")
    await house.until("sent", has_it, lost)
    # The second one was never given it, need not be asked, and could not tell.
    assert second.asked == []
    assert second.bodies == ["lost"]
    assert await house.book.rows(_ATTEMPTS, has_it) == [(1, "scripted", "accepted", _FIRST)]
    assert [row[1:3] for row in await house.book.rows(_ATTEMPTS, lost)] == [
        ("scripted", "unknown"),
        ("second", "accepted"),
    ]


async def test_throttling_costs_no_attempt_and_leads_nowhere(
    house: House, provider: ScriptedProvider, second: SecondProvider
) -> None:
    provider.scripts = {"slow": [Retryable("429")] * 6 + [Accepted("P7")]}
    await house.dispatch(routes=BOTH, dispatch_failover_after=1, dispatch_retry_max=0.06)
    (slow,) = await house.send("slow")
    await house.until("sent", slow)
    assert [row[:2] for row in await house.book.rows(_ATTEMPTS, slow)] == [
        (number, "scripted") for number in range(1, 8)
    ]
    assert second.bodies == []


async def test_a_rate_is_kept_without_an_attempt_lost(
    house: House, provider: ScriptedProvider, second: SecondProvider
) -> None:
    await house.dispatch(routes=BOTH, provider_rates="scripted=20")
    begun = await house.book.value("SELECT now()")
    ids = await house.send(*[f"{number}" for number in range(60)])
    await house.until("sent", *ids)
    took = await house.book.value(
        "SELECT extract(epoch FROM max(start_time) - %s)::float8 FROM dispatch_attempts", begun
    )
    # The first second's twenty go at once; the claim that follows may be late, and the last is never early.
    assert took >= (60 - 20 - 1) / 20
    assert second.bodies == []
    assert provider.bodies == [f"{number}" for number in range(60)]
    assert await house.book.value("SELECT max(attempt_count) FROM messages") == 1
    assert await house.book.value("SELECT max(event_count) FROM messages") == 3
    await house.until_outbox_is_empty()


async def test_no_more_than_the_concurrency_is_under_way(house: House, provider: ScriptedProvider) -> None:
    await house.dispatch(provider_concurrency="scripted=4")
    ids = await house.send(*[f"{number}" for number in range(10)], channel="CHANNEL_SMS")
    await house.until("sent", *ids)
    assert max(len(batch) for batch in provider.batches) == 4
    assert len(provider.sent) == 10


async def test_the_route_goes_by_the_recipient_the_sender_and_the_share(
    house: House, second: SecondProvider
) -> None:
    second.scripts = {"uk": [Retryable("503")]}
    await house.dispatch(
        routes="sms=scripted sms[to=+44]=second,scripted sms[from=+15550001111]=scripted:3|second:1",
        dispatch_failover_after=1,
    )
    (home,) = await house.send("home")
    (abroad,) = await house.send("uk", recipient="+447911123456")
    shared = await house.send(*[f"shared {n}" for n in range(100)], sender="+15550001111")
    await house.until("sent", home, abroad, *shared)
    assert await house.book.rows(_ATTEMPTS, home) == [(1, "scripted", "accepted", _FIRST)]
    rule = "the route of sms[to=+44]"
    assert await house.book.rows(_ATTEMPTS, abroad) == [
        (1, "second", "retryable", f"position 1 of {rule}"),
        (2, "scripted", "accepted", f"position 2 of {rule}; second failed 1 times"),
    ]
    rule = "position 1 of the route of sms[from=+15550001111], share"
    shares = dict(
        await house.book.rows(
            "SELECT route_reason, count(*) FROM dispatch_attempts WHERE message_id = ANY(%s) GROUP BY 1",
            shared,
        )
    )
    assert set(shares) == {f"{rule} 3/4", f"{rule} 1/4"}
    assert 50 < shares[f"{rule} 3/4"] < 95


async def test_the_rate_of_a_sender_is_kept_without_an_attempt_lost(
    house: House, provider: ScriptedProvider
) -> None:
    await house.dispatch(sender_rates="+15550001111=10")
    begun = await house.book.value("SELECT now()")
    slow = await house.send(*[f"slow {n}" for n in range(25)], sender="+15550001111", priority="PRIORITY_LOW")
    (fast,) = await house.send("fast")
    await house.until_true("SELECT count(*) > 9 FROM messages WHERE state = 'sent'")
    # Who waits is in its own lane, and on none that the retry budget holds for.
    lanes = {row[0] for row in await house.book.rows(_LANES)}
    assert lanes <= {"posthouse.dispatch.sms", "posthouse.dispatch.sms.low"}
    await house.until("sent", fast, *slow)
    took = await house.book.value(
        "SELECT extract(epoch FROM max(start_time) - %s)::float8 FROM dispatch_attempts"
        " WHERE message_id = ANY(%s)",
        begun,
        slow,
    )
    assert took >= (25 - 10 - 1) / 10
    # Waiting has cost no attempt, and is no event.
    assert await house.book.rows("SELECT number, count(*) FROM dispatch_attempts GROUP BY 1") == [(1, 26)]
    assert await house.book.rows("SELECT max(attempt_count), max(event_count) FROM messages") == [(1, 3)]
    assert [body for body in provider.bodies if body != "fast"] == [f"slow {n}" for n in range(25)]
    await house.until_outbox_is_empty()


async def test_who_waits_for_the_turn_of_its_sender_expires_all_the_same(
    house: House, provider: ScriptedProvider
) -> None:
    await house.dispatch(sender_rates="*=0.01")
    first, second = await house.send("first", "second")
    await house.until("sent", first)
    await house.until_true(
        "SELECT count(*) = 1 FROM outbox WHERE owner IS NULL AND cardinality(message_ids) = 1"
        " AND subject LIKE 'posthouse.dispatch.%%'"
    )
    await house.book.rows("UPDATE messages SET expire_time = now() WHERE state = 'pending' RETURNING true")
    await house.book.rows(_DUE)
    await house.until("failed", second)
    assert await house.book.rows("SELECT reason FROM dead_letters") == [("expired",)]
    assert provider.bodies == ["first"]
    await house.until_outbox_is_empty()


async def test_what_is_urgent_stays_urgent_when_it_is_tried_again(
    house: House, provider: ScriptedProvider
) -> None:
    provider.scripts = {"urgent": [Retryable("503"), Accepted("P2")], "other": [Retryable("503")]}
    await house.dispatch(dispatch_retry_base=60.0, dispatch_retry_max=60.0)
    (urgent,) = await house.send("urgent", priority="PRIORITY_HIGH")
    (other,) = await house.send("other")
    await house.until_true("SELECT count(*) = 2 FROM dispatch_attempts")
    lanes = dict(
        await house.book.rows(
            "SELECT message_ids[1]::text, subject FROM outbox WHERE subject LIKE 'posthouse.dispatch.%%'"
        )
    )
    assert lanes == {urgent: "posthouse.dispatch.sms.retry_high", other: "posthouse.dispatch.sms.retry"}
    await house.book.rows("UPDATE outbox SET due_time = now() WHERE %s::uuid = ANY(message_ids)", urgent)
    await house.until("sent", urgent)
