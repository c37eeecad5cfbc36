"""What the simulator does with messages: outcomes, distribution, seeds, memory."""

import random
import re
import stat
from collections import Counter
from pathlib import Path

import pytest

from services.kit.errors import InvalidRequestError
from services.kit.ids import new_id
from services.providers.base import Absent, Accepted, CannotTell, Found, OutboundMessage, Outcome, Unknown
from services.providers.simulator import SimulatorProvider
from services.providers.simulator_database import SimulatorDatabase
from services.providers.simulator_plan import RATE_LIMITED, REJECTED, SERVER_ERROR, TIMED_OUT
from services.providers.simulator_profile import SimulatorProfile
from services.providers.simulator_store import SimulatorStore
from tests.unit.providers.conftest import StartSimulator, outbound

FAULTS = SimulatorProfile(
    rate_limited_rate=0.1,
    server_error_rate=0.2,
    timeout_rate=0.1,
    rejected_rate=0.1,
    undelivered_rate=0.2,
    reply_rate=0.5,
    callback_loss_rate=0.1,
    callback_duplicate_rate=0.1,
    callback_reorder_rate=0.2,
    seed=42,
)


async def test_everything_is_accepted_by_default(start_simulator: StartSimulator) -> None:
    provider = await start_simulator()
    messages = [outbound(n, channel=channel) for n, channel in enumerate(("sms", "mms", "email", "voice"))]

    outcomes = await provider.send(messages)

    ids = [outcome.provider_message_id for outcome in outcomes if isinstance(outcome, Accepted)]
    assert [text[:2] for text in ids] == ["SM", "MM", "EM", "CA"]
    assert all(re.fullmatch("[A-Z]{2}[0-9a-f]{32}", text) for text in ids)


async def test_ids_are_unique_and_in_order_of_time(start_simulator: StartSimulator) -> None:
    provider = await start_simulator()
    ids = []
    for _ in range(20):
        outcomes = await provider.send([outbound(n) for n in range(50)])
        ids += [outcome.provider_message_id for outcome in outcomes if isinstance(outcome, Accepted)]
    assert len(set(ids)) == 1000
    assert [text[2:14] for text in ids] == sorted(text[2:14] for text in ids)


@pytest.mark.parametrize("seed", [0, 7])
async def test_outcomes_are_distributed_as_the_profile_says(
    start_simulator: StartSimulator, seed: int
) -> None:
    profile = SimulatorProfile(
        rate_limited_rate=0.3, server_error_rate=0.1, timeout_rate=0.05, rejected_rate=0.2, seed=seed
    )
    provider = await start_simulator(profile=profile)
    outcomes: list[Outcome] = []
    for start in range(0, 5000, 1000):
        outcomes += await provider.send([outbound(n) for n in range(start, start + 1000)])
    share = {kind: outcomes.count(kind) / 5000 for kind in (RATE_LIMITED, SERVER_ERROR, TIMED_OUT, REJECTED)}
    assert share[RATE_LIMITED] == pytest.approx(0.3, abs=0.05)
    assert share[SERVER_ERROR] == pytest.approx(0.1, abs=0.05)
    assert share[TIMED_OUT] == pytest.approx(0.05, abs=0.03)
    assert share[REJECTED] == pytest.approx(0.2, abs=0.05)


async def test_only_what_was_accepted_is_remembered(start_simulator: StartSimulator, tmp_path: Path) -> None:
    profile = SimulatorProfile(rate_limited_rate=0.25, server_error_rate=0.25, timeout_rate=0.25)
    provider = await start_simulator(profile=profile)
    messages = [outbound(n) for n in range(200)]

    outcomes = await provider.send(messages)

    seen = SimulatorStore(tmp_path / "simulator.db").seen([message.id for message in messages])
    for message, outcome in zip(messages, outcomes, strict=True):
        assert seen[message.id] == int(isinstance(outcome, (Accepted, Unknown)))
    assert {type(outcome).__name__ for outcome in outcomes} == {"Accepted", "Retryable", "Unknown"}


async def run_of(
    provider: SimulatorProvider, batch_size: int, order: int
) -> dict[tuple[str, int], Counter[str]]:
    """Send the same 400 messages in another order and other batches; return the outcomes per message."""
    plan = [(number, attempt) for number in range(100) for attempt in (1, 2) for _ in range(2)]
    random.Random(order).shuffle(plan)  # noqa: S311 - an order, not a secret
    seen: dict[tuple[str, int], Counter[str]] = {}
    for start in range(0, len(plan), batch_size):
        messages = [outbound(number, attempt=attempt) for number, attempt in plan[start : start + batch_size]]
        for message, outcome in zip(messages, await provider.send(messages), strict=True):
            kind = type(outcome).__name__ + getattr(outcome, "error_code", "")
            seen.setdefault((message.recipient, message.attempt), Counter())[kind] += 1
    return seen


async def test_a_seed_reproduces_outcomes_whatever_the_batches(start_simulator: StartSimulator) -> None:
    first = await run_of(await start_simulator(profile=FAULTS, file="a.db"), 400, order=1)
    second = await run_of(await start_simulator(profile=FAULTS, file="b.db"), 7, order=2)
    assert first == second
    # Repeats and attempts are drawn each for itself.
    assert any(len(kinds) == 2 for kinds in first.values())


async def test_another_seed_gives_another_run(start_simulator: StartSimulator) -> None:
    first = await run_of(
        await start_simulator(profile=SimulatorProfile(rejected_rate=0.5, seed=1), file="a.db"), 50, 1
    )
    second = await run_of(
        await start_simulator(profile=SimulatorProfile(rejected_rate=0.5, seed=2), file="b.db"), 50, 1
    )
    assert first != second


async def test_setting_the_profile_again_repeats_the_seeded_run(start_simulator: StartSimulator) -> None:
    provider = await start_simulator(profile=FAULTS)
    first = await run_of(provider, 50, order=1)
    second = await run_of(provider, 50, order=1)
    await provider.set_profile("", FAULTS)
    third = await run_of(provider, 50, order=1)
    assert first == third
    assert first != second


async def test_lookup_proves_presence_and_absence(start_simulator: StartSimulator) -> None:
    provider = await start_simulator(profile=SimulatorProfile(timeout_rate=1.0))
    sent, never = outbound(1), outbound(2)
    assert isinstance((await provider.send([sent]))[0], Unknown)
    again = OutboundMessage(sent.id, 2, "sms", sent.sender, sent.recipient, sent.body)

    found, absent, other_attempt = await provider.lookup([sent, never, again])

    assert isinstance(found, Found)
    assert found.provider_message_id.startswith("SM")
    assert (absent, other_attempt) == (Absent(), Absent())


async def test_what_is_lost_on_its_way_is_unknown_and_proved_absent(start_simulator: StartSimulator) -> None:
    provider = await start_simulator(profile=SimulatorProfile(lost_rate=1.0))
    message = outbound(1)
    assert isinstance((await provider.send([message]))[0], Unknown)
    assert await provider.lookup([message]) == [Absent()]


def test_the_oldest_are_forgotten_and_then_nothing_is_proved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.providers.simulator_store._PRUNE_EVERY", 100)
    store = SimulatorStore(tmp_path / "small.db", capacity=150).open()
    ids = [new_id() for _ in range(300)]
    for start in range(0, 300, 100):
        # An hour in the future, so that the ids are surely older than what is still remembered.
        rows = [[text, 1, f"SM{text}", "sms", "+1", "+2", "", 2**42] for text in ids[start : start + 100]]
        store.add(rows, [])
    assert sum(store.seen(ids).values()) == 150
    assert store.seen(ids[-150:]) == dict.fromkeys(ids[-150:], 1)
    assert store.find([(ids[0], 1), (ids[-1], 1)]) == [CannotTell(), Found(f"SM{ids[-1]}")]
    store.close()


async def test_memory_can_be_read_while_and_after_it_is_written(
    start_simulator: StartSimulator, tmp_path: Path
) -> None:
    provider = await start_simulator()
    message = outbound(1, body="What it said")
    await provider.send([message, message])
    store = SimulatorStore(tmp_path / "simulator.db")
    assert store.seen([message.id, "other"]) == {message.id: 2, "other": 0}
    await provider.close()
    first, second = store.remembered([message.id])
    assert (first.sender, first.recipient, first.attempt) == (message.sender, message.recipient, 1)
    assert first.body_sha256 == second.body_sha256
    assert first.provider_message_id != second.provider_message_id


async def test_a_changed_profile_reaches_other_processes_and_survives(
    start_simulator: StartSimulator,
) -> None:
    first = await start_simulator()
    second = await start_simulator()
    rejecting = SimulatorProfile(rejected_rate=1.0)

    assert await first.set_profile("sms", rejecting) == {"sms": rejecting}

    assert await first.send([outbound(1)]) == [REJECTED]
    second._profiles_read -= 1  # a second later
    assert await second.send([outbound(1)]) == [REJECTED]
    assert isinstance((await second.send([outbound(1, channel="email")]))[0], Accepted)
    await first.close()
    await second.close()
    assert (await (await start_simulator()).profiles())["sms"] == rejecting


async def test_new_settings_win_over_what_was_set_at_run_time(start_simulator: StartSimulator) -> None:
    provider = await start_simulator()
    await provider.set_profile("", SimulatorProfile(rejected_rate=1.0))
    await provider.close()
    slow = SimulatorProfile(latency_ms=1)
    assert set((await (await start_simulator(profile=slow)).profiles()).values()) == {slow}


async def test_a_profile_of_an_unknown_channel_is_refused(start_simulator: StartSimulator) -> None:
    provider = await start_simulator()
    with pytest.raises(InvalidRequestError, match=r"profile\.channel"):
        await provider.set_profile("fax", SimulatorProfile())


def test_what_it_remembers_is_for_its_own_user_alone(tmp_path: Path) -> None:
    database = SimulatorDatabase(tmp_path / "data" / "simulator.db")
    database.open()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in database.path.parent.iterdir()}
    database.close()
    assert len(modes) > 1
    assert set(modes.values()) == {0o600}, modes
