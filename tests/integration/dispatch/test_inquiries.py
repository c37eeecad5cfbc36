"""Nobody knows whether it went out: the provider is asked, and nothing is sent twice unless it is absent."""

import pytest

from services.providers.base import Absent, Accepted, CannotTell, Found, LookupResult, Unknown
from tests.integration.ledger.rows import eventually

from .house import House
from .scripted import Hang, ScriptedProvider

pytestmark = pytest.mark.integration

_ATTEMPTS = (
    "SELECT number, outcome, error_code, provider_message_id FROM dispatch_attempts"
    " WHERE message_id = %s ORDER BY number"
)


async def test_what_the_provider_has_is_sent(house: House, provider: ScriptedProvider) -> None:
    provider.scripts = {"lost": [Unknown("timeout", "no answer")]}
    provider.answers = {"lost": [Found("P9")]}
    await house.dispatch()
    lost, fine = await house.send("lost", "fine")
    await house.until("sent", lost, fine)
    assert provider.attempts() == {"lost": 1, "fine": 1}
    assert [(message.id, message.attempt) for message in provider.asked] == [(lost, 1)]
    assert await house.book.story(lost) == ["accepted", "sending", "unknown", "sent"]
    assert await house.book.rows(_ATTEMPTS, lost) == [(1, "accepted", None, "P9")]
    await house.until_outbox_is_empty()


async def test_what_a_twin_has_is_not_believed_of_the_other(house: House, provider: ScriptedProvider) -> None:
    # Who tells messages apart by what they say finds the record of the one for the other.
    provider.scripts = {body: [Unknown("timeout")] for body in ("lost", "twin", "own")}
    await house.dispatch()
    (fine,) = await house.send("fine")
    await house.until("sent", fine)
    provider.answers = {"lost": [Found(f"P-{fine}")], "twin": [Found("P8")], "own": [Found("P9")]}
    lost, *twins, own = await house.send("lost", "twin", "twin", "own")
    await house.until("sent", own)
    asked = {message.id for message in provider.asked}
    assert asked == {lost, *twins, own}
    await house.until("unknown", lost, *twins)


async def test_what_the_provider_does_not_have_is_sent_again(
    house: House, provider: ScriptedProvider
) -> None:
    provider.scripts = {"lost": [Unknown("timeout"), Accepted("P2")]}
    provider.answers = {"lost": [Absent()]}
    await house.dispatch()
    (lost,) = await house.send("lost")
    await house.until("sent", lost)
    assert [message.attempt for message in provider.sent] == [1, 2]
    assert await house.book.story(lost) == [
        *["accepted", "sending", "unknown", "retrying", "sending", "sent"]
    ]
    # The first stays unknown: it is why there is a second.
    assert await house.book.rows(_ATTEMPTS, lost) == [
        (1, "unknown", "absent", None),
        (2, "accepted", None, "P2"),
    ]
    await house.until_outbox_is_empty()


async def test_what_is_always_absent_is_given_up_in_the_end(house: House, provider: ScriptedProvider) -> None:
    provider.scripts = {"lost": [Unknown("timeout")]}
    provider.answers = {"lost": [Absent()]}
    await house.dispatch()
    (lost,) = await house.send("lost")
    await house.until("failed", lost)
    assert provider.attempts() == {"lost": 3}
    assert await house.book.rows("SELECT reason, error_code, attempt_count FROM dead_letters") == [
        ("attempts_exhausted", "absent", 3)
    ]
    await house.until_outbox_is_empty()


@pytest.mark.parametrize("answers", [[], [CannotTell(), CannotTell(), Found("P9")]])
async def test_what_the_provider_cannot_tell_stays_unknown_and_is_asked_again(
    house: House, provider: ScriptedProvider, answers: list[LookupResult]
) -> None:
    provider.scripts = {"lost": [Unknown("timeout")], "seen": [Unknown("timeout")]}
    provider.answers = {"lost": answers, "seen": [Found("P1")]}
    await house.dispatch()
    lost, seen = await house.send("lost", "seen")
    # A neighbour that is answered does not wait for the one that is not.
    await house.until("sent", seen)
    if answers:
        await house.until("sent", lost)
        assert [message.id for message in provider.asked].count(lost) == 3
        await house.until_outbox_is_empty()
    else:
        assert await house.book.state(lost) == "unknown"
        assert await house.book.value("SELECT count(*) FROM outbox WHERE subject LIKE '%%.inquiry'") == 1
        assert await house.book.rows(_ATTEMPTS, lost) == [(1, "unknown", "timeout", None)]
    assert [message.id for message in provider.asked].count(seen) == 1
    assert provider.attempts() == {"lost": 1, "seen": 1}


async def test_inquiries_end_after_the_eighth(house: House, provider: ScriptedProvider) -> None:
    provider.inquiry_delay = 0.001
    provider.scripts = {"lost": [Unknown("timeout")]}
    await house.dispatch()
    (lost,) = await house.send("lost")
    await house.until("unknown", lost)
    await house.until_outbox_is_empty()
    assert len(provider.asked) == 8
    assert await house.book.state(lost) == "unknown"
    assert await house.book.value("SELECT detail FROM message_events WHERE type = 'held'") == (
        "not settled by 8 inquiries"
    )


async def test_inquiries_of_different_age_are_counted_apart(house: House, provider: ScriptedProvider) -> None:
    provider.scripts = {"old": [Unknown("timeout")], "young": [Unknown("timeout")]}
    old, young = [*await house.send("old"), *await house.send("young", priority="PRIORITY_HIGH")]
    first = await house.dispatch()
    await house.until("unknown", old, young)
    await first.close()
    provider.asked.clear()
    await house.book.rows("UPDATE outbox SET inquiry_count = 7 WHERE %s::uuid = ANY(message_ids)", old)
    await house.book.rows("UPDATE outbox SET due_time = now(), owner = NULL WHERE subject LIKE '%%.inquiry'")
    # Both at once, so that they are taken together.
    await house.until_published(2)
    await house.dispatch()
    await eventually(lambda: _asked(provider, 2))
    provider.answers = {"young": [Found("P1")]}
    await house.until("sent", young)
    await house.until_outbox_is_empty()
    assert await house.book.state(old) == "unknown"
    assert [message.id for message in provider.asked].count(old) == 1
    assert [message.id for message in provider.asked].count(young) > 1


async def test_an_envelope_of_an_earlier_attempt_does_not_ask_too_early(
    house: House, provider: ScriptedProvider
) -> None:
    """Of a second attempt that was just cut short, the provider may have and not show it yet."""
    provider.inquiry_delay = 60.0
    provider.scripts = {"lost": [Unknown("timeout"), Accepted("P2")]}
    provider.answers = {"lost": [Absent()]}
    await house.dispatch()
    (lost,) = await house.send("lost")
    await house.until("unknown", lost)
    due = "UPDATE outbox SET due_time = now() WHERE subject LIKE '%%.inquiry' RETURNING true"
    assert await house.book.value(due)
    await house.until_true(
        "SELECT owner IS NULL AND due_time > now() + interval '90 seconds' FROM outbox"
        " WHERE subject LIKE '%%.inquiry'"
    )
    assert await house.book.state(lost) == "unknown"
    assert provider.asked == []
    await house.book.rows("UPDATE dispatch_attempts SET end_time = now() - interval '60 seconds'")
    assert await house.book.value(due)
    await house.until("sent", lost)
    assert len(provider.asked) == 1


async def _asked(provider: ScriptedProvider, count: int) -> bool:
    return len(provider.asked) >= count


async def test_a_provider_that_raises_leaves_its_batch_unknown(
    house: House, provider: ScriptedProvider
) -> None:
    provider.scripts = {"boom": [RuntimeError("no such thing"), Accepted("P1")]}
    provider.answers = {"boom": [Absent()], "beside": [Found("P2")]}
    await house.dispatch()
    boom, beside = await house.send("boom", "beside")
    await house.until("sent", boom, beside)
    assert provider.attempts() == {"boom": 2, "beside": 1}
    assert await house.book.rows(
        "SELECT DISTINCT error_code, detail FROM message_events WHERE type = 'unknown'"
    ) == [("provider_error", "RuntimeError")]


async def test_a_provider_that_hangs_is_cut_off(house: House, provider: ScriptedProvider) -> None:
    provider.send_timeout = 0.3
    provider.batch_size = 1
    provider.scripts = {"stuck": [Hang()]}
    provider.answers = {"stuck": [Found("P1")]}
    await house.dispatch()
    before, stuck, after = await house.send("before", "stuck", "after")
    await house.until("sent", before, stuck, after)
    assert provider.attempts() == {"before": 1, "stuck": 1, "after": 1}
    assert await house.book.story(stuck) == ["accepted", "sending", "unknown", "sent"]
    assert await house.book.value(
        "SELECT detail FROM message_events WHERE message_id = %s AND type = 'unknown'", stuck
    ) == ("no answer within 0.3 s")


async def test_a_lookup_that_raises_has_not_answered(
    house: House, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = provider.lookup
    calls = 0

    async def lookup(messages: object) -> list[LookupResult]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ConnectionError
        return await answer(messages)  # type: ignore[arg-type]

    monkeypatch.setattr(provider, "lookup", lookup)
    provider.scripts = {"lost": [Unknown("timeout")]}
    provider.answers = {"lost": [Found("P1")]}
    await house.dispatch()
    (lost,) = await house.send("lost")
    await house.until("sent", lost)
    assert calls == 2
    assert provider.attempts() == {"lost": 1}


async def test_what_is_absent_is_held_where_the_policy_says_so(
    house: House, provider: ScriptedProvider
) -> None:
    provider.scripts = {"lost": [Unknown("timeout")]}
    provider.answers = {"lost": [Absent()]}
    await house.dispatch(unknown_policy="scripted=resend scripted/sms=hold")
    (lost,) = await house.send("lost")
    await house.until("unknown", lost)
    await house.until_outbox_is_empty()
    assert await house.book.state(lost) == "unknown"
    assert len(provider.asked) == len(provider.sent) == 1
    assert await house.book.story(lost) == ["accepted", "sending", "unknown", "held"]
    assert await house.book.rows("SELECT provider, detail FROM message_events WHERE type = 'held'") == [
        ("scripted", "the provider has proved its absence; the policy of scripted for sms is to hold it")
    ]


async def test_what_was_published_in_vain_while_no_dispatcher_lived_is_no_inquiry(
    house: House, provider: ScriptedProvider
) -> None:
    provider.inquiry_delay = 3600.0
    provider.scripts = {"lost": [Unknown("timeout")]}
    provider.answers = {"lost": [CannotTell(), Found("P9")]}
    await house.dispatch()
    (lost,) = await house.send("lost")
    await house.until("unknown", lost)
    await house.book.rows("UPDATE dispatch_attempts SET end_time = end_time - interval '2 hours'")
    ask = "UPDATE outbox SET due_time = now(), publish_count = 20 WHERE subject LIKE '%%.inquiry'"
    await house.book.rows(ask)

    async def asked_once() -> bool:
        return len(provider.asked) == 1 and await house.book.value(
            "SELECT count(*) = 0 FROM outbox WHERE subject LIKE '%%.inquiry' AND due_time <= now()"
            " OR owner IS NOT NULL"
        )

    await eventually(asked_once)
    assert "held" not in await house.book.story(lost)
    await house.book.rows(ask.replace("20", "30"))
    await house.until("sent", lost)
