"""The simulator's callbacks over a real socket: delivery, faults, outages, and processes that die."""

import asyncio
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from services.providers.simulator_plan import REPLY_TEXT
from services.providers.simulator_profile import SimulatorProfile
from services.providers.simulator_store import SimulatorStore
from services.providers.simulator_webhook import parse_events
from tests.servers import free_ports
from tests.unit.providers.conftest import NOWHERE, StartSimulator, outbound
from tests.unit.providers.receiver import SECRET, Receiver, wait_until_delivered

QUICK = SimulatorProfile(callback_delay_ms=0, reply_rate=0, reply_delay_ms=0)

# Sends 1,000 messages from a process of its own, says so, and waits to be killed.
SENDER = """
import asyncio, sys
from pathlib import Path
from services.kit.ids import new_id
from services.providers import simulator_courier
from services.providers.base import OutboundMessage
from services.providers.simulator import SimulatorConfig, SimulatorProvider
from services.providers.simulator_profile import SimulatorProfile

# Nothing a test waits for may be due to the end of this.
simulator_courier._HOLD_SECONDS = 600.0

async def main():
    path, url, secret, delay = sys.argv[1:]
    profile = SimulatorProfile(callback_delay_ms=int(delay), reply_rate=0)
    config = SimulatorConfig(Path(path), secret, url, frozenset({"sms"}), {"sms": profile})
    provider = SimulatorProvider(config)
    await provider.start()
    for number in range(10):
        messages = [
            OutboundMessage(new_id(), 1, "sms", "+15551234567", f"+1555{number:07d}", "Hello")
            for _ in range(100)
        ]
        await provider.send(messages)
    print("sent", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def start_sender(path: Path, url: str, delay_ms: int) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SENDER, str(path), url, SECRET, str(delay_ms), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    # Callbacks that are due before all is sent are refused, which is logged.
    async with asyncio.timeout(60):
        while (line := await process.stdout.readline()) != b"sent\n":
            assert line, "the sender has ended"
    return process


async def test_a_message_is_delivered_and_answered(
    receiver: Receiver, start_simulator: StartSimulator
) -> None:
    provider = await start_simulator(receiver.url)
    message = outbound(1, channel="mms")

    await provider.send([message])
    await receiver.wait_for(2)

    receipt = parse_events(receiver.requests[0].body).receipts[0]
    assert (receipt.state, receipt.message_id, receipt.attempt) == ("delivered", message.id, 1)
    assert receipt.event_key == f"{receipt.provider_message_id}:delivered"
    assert receipt.provider_time is not None
    reply = parse_events(receiver.requests[1].body).inbound[0]
    assert (reply.sender, reply.recipient, reply.body) == (message.recipient, message.sender, REPLY_TEXT)
    assert reply.channel == "sms"
    assert reply.event_key == f"{reply.provider_message_id}:reply"
    assert provider.verify(receiver.requests[0])
    assert provider.parse(receiver.requests[0]).receipts == [receipt]


async def test_single_sends_share_requests_of_bounded_size(
    receiver: Receiver, start_simulator: StartSimulator
) -> None:
    provider = await start_simulator(receiver.url, SimulatorProfile(callback_delay_ms=1000, reply_rate=0))
    for number in range(30):
        await provider.send([outbound(number)])
    await provider.send([outbound(number) for number in range(1000)])
    await receiver.wait_for(1030)
    assert max(receiver.request_sizes) <= 500
    assert len(receiver.request_sizes) < 30
    await wait_until_delivered(provider._config.path)


async def test_texts_that_need_escaping_arrive_as_they_are(
    receiver: Receiver, start_simulator: StartSimulator
) -> None:
    text = 'He said: "¡Sí!" \\ \n 😀'
    profile = SimulatorProfile(callback_delay_ms=0, reply_rate=1, reply_delay_ms=0, reply_text=text)
    provider = await start_simulator(receiver.url, profile)
    await provider.send([outbound(1)])
    await receiver.wait_for(2)
    assert [event["body"] for event in receiver.events if event["event"] == "reply"] == [text]


async def test_callbacks_are_duplicated_lost_and_late_as_the_profile_says(
    receiver: Receiver, start_simulator: StartSimulator
) -> None:
    profile = SimulatorProfile(
        callback_delay_ms=0,
        callback_duplicate_rate=0.3,
        callback_loss_rate=0.2,
        callback_reorder_rate=0.2,
        undelivered_rate=0.25,
    )
    provider = await start_simulator(receiver.url, profile)
    messages = [outbound(number) for number in range(2000)]
    for start in range(0, 2000, 500):
        await provider.send(messages[start : start + 500])
    await wait_until_delivered(provider._config.path)

    heard = receiver.of_kind("delivered") + receiver.of_kind("undelivered")
    assert len(heard) / 2000 == pytest.approx(0.8, abs=0.05)
    assert sum(count == 2 for count in heard.values()) / len(heard) == pytest.approx(0.3, abs=0.05)
    assert len(receiver.of_kind("undelivered")) / len(heard) == pytest.approx(0.25, abs=0.05)
    times = [event["timestamp"] for event in receiver.events]
    assert times != sorted(times)
    copies = Counter(event["event_id"] for event in receiver.events)
    assert max(copies.values()) == 2


async def test_seeded_callbacks_are_the_same_in_every_run(
    receiver: Receiver, start_simulator: StartSimulator
) -> None:
    profile = SimulatorProfile(
        callback_delay_ms=0, callback_duplicate_rate=0.3, callback_loss_rate=0.3, undelivered_rate=0.3,
        reply_rate=0.5, reply_delay_ms=0, seed=99,
    )  # fmt: skip
    runs: list[Counter[tuple[Any, ...]]] = []
    for file, batch in (("a.db", 300), ("b.db", 11)):
        receiver.events.clear()
        provider = await start_simulator(receiver.url, profile, file=file)
        messages = [outbound(number) for number in range(300)]
        contact = {message.id: message.recipient for message in messages}
        for start in range(0, 300, batch):
            await provider.send(messages[start : start + batch])
        await wait_until_delivered(provider._config.path)
        runs.append(Counter((contact[event["message_id"]], event["event"]) for event in receiver.events))
    assert runs[0] == runs[1]
    assert len(runs[0]) > 200


async def until_called(receiver: Receiver) -> None:
    async with asyncio.timeout(60):
        while not receiver.requests:  # noqa: ASYNC110 - a refused request is no news
            await asyncio.sleep(0.02)


async def test_a_receiver_that_was_away_misses_nothing(start_simulator: StartSimulator) -> None:
    port = free_ports(1)
    provider = await start_simulator(Receiver(port).url, QUICK)
    messages = [outbound(number) for number in range(1200)]
    for start in range(0, 1200, 100):
        await provider.send(messages[start : start + 100])
    await asyncio.sleep(0.5)
    async with Receiver(port) as receiver:
        receiver.status = 503
        await until_called(receiver)
        receiver.status = 200
        await receiver.wait_for(1200)
        assert receiver.of_kind("delivered") == Counter(message.id for message in messages)


async def test_a_refused_callback_does_not_hold_up_its_neighbours(
    receiver: Receiver, start_simulator: StartSimulator
) -> None:
    provider = await start_simulator(receiver.url, SimulatorProfile(callback_delay_ms=300, reply_rate=0))
    messages = [outbound(number) for number in range(20)]
    receiver.refuse_containing = messages[7].id.encode()
    for message in messages:
        await provider.send([message])
    await receiver.wait_for(19)
    assert messages[7].id not in receiver.of_kind("delivered")
    receiver.refuse_containing = None
    await receiver.wait_for(20)
    assert receiver.of_kind("delivered") == Counter(message.id for message in messages)


async def test_a_refused_callback_that_is_always_due_first_lets_others_pass(
    receiver: Receiver, start_simulator: StartSimulator
) -> None:
    provider = await start_simulator(receiver.url, QUICK)
    poison, other = outbound(1), outbound(2)
    receiver.refuse_containing = poison.id.encode()
    await provider.send([poison])
    await until_called(receiver)
    await provider.send([other])
    await receiver.wait_for(1)
    assert receiver.of_kind("delivered") == {other.id: 1}


async def test_a_killed_process_is_survived_by_its_callbacks(
    receiver: Receiver, start_simulator: StartSimulator, tmp_path: Path
) -> None:
    path = tmp_path / "simulator.db"
    # It reaches nobody, should it live for long enough to try.
    process = await start_sender(path, NOWHERE, 1000)
    process.kill()
    await process.wait()
    assert await asyncio.to_thread(SimulatorStore(path).pending) == 1000

    await start_simulator(receiver.url)
    await receiver.wait_for(1000)

    assert set(receiver.of_kind("delivered").values()) == {1}


async def test_a_process_killed_in_flight_is_taken_over_at_once(
    start_simulator: StartSimulator, tmp_path: Path
) -> None:
    claimed = asyncio.Event()

    async def hang(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        claimed.set()
        await asyncio.sleep(60)
        writer.close()

    path = tmp_path / "simulator.db"
    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    process = await start_sender(path, f"http://127.0.0.1:{port}/", 0)
    await asyncio.wait_for(claimed.wait(), 60)
    process.kill()
    await process.wait()
    server.close()
    async with Receiver() as receiver:
        await start_simulator(receiver.url)
        # Far less than the time for which the dead process holds what it was sending.
        await receiver.wait_for(1000)


async def test_two_processes_share_the_work_without_doing_it_twice(
    receiver: Receiver, start_simulator: StartSimulator, tmp_path: Path
) -> None:
    path = tmp_path / "simulator.db"
    await start_simulator(receiver.url)
    processes = await asyncio.gather(*(start_sender(path, receiver.url, 100) for _ in range(2)))
    await receiver.wait_for(2000)
    await asyncio.sleep(0.3)
    for process in processes:
        process.kill()
        await process.wait()
    assert len(receiver.of_kind("delivered")) == 2000
    assert set(receiver.of_kind("delivered").values()) == {1}


async def test_latency_delays_the_answer_not_the_acceptance(
    receiver: Receiver, start_simulator: StartSimulator
) -> None:
    profile = SimulatorProfile(latency_ms=60_000, callback_delay_ms=0, reply_rate=0)
    provider = await start_simulator(receiver.url, profile)
    sending = asyncio.create_task(provider.send([outbound(1)]))
    await receiver.wait_for(1)
    assert not sending.done()
    sending.cancel()
