"""Whole services in this process, wired by their own __main__, with a scripted provider at the far end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import nats
import pytest

import services.dispatch.__main__ as dispatch_process
import services.message.__main__ as message_process
from posthouse.v1 import message_service_pb2 as pb
from posthouse.v1 import message_service_pb2_grpc as pb_grpc
from services.dispatch.ownership import Ownership
from services.dispatch.worker import Dispatcher
from services.kit.bus import Bus
from services.kit.client import open_channel
from services.kit.config import Settings
from services.ledger.database import Database
from tests.integration.ledger.rows import CONTACT, OURS, Book, eventually
from tests.servers import free_ports

from .scripted import ScriptedProvider


@dataclass
class RunningDispatcher:
    """A dispatch process, as far as it can be had inside another one."""

    process: "asyncio.Task[None]"
    stop: asyncio.Event
    port: int
    dispatcher: Dispatcher
    ownership: Ownership

    async def kill(self) -> None:
        """End it as SIGKILL would: what is under way is settled by nobody, and its lock is gone."""
        slots = self.dispatcher._slots
        slots._closing = True
        for task in slots._busy:
            task.cancel()
        await asyncio.gather(*slots._busy, return_exceptions=True)
        await self.close()

    async def close(self) -> None:
        """Drain it, as SIGTERM does."""
        self.stop.set()
        await asyncio.wait_for(asyncio.shield(self.process), 60)


class House:
    """One message process, any number of dispatchers, and the ledger they share."""

    def __init__(
        self,
        settings: Settings,
        provider: ScriptedProvider,
        database: Database,
        stub: "pb_grpc.MessageServiceAsyncStub",
        patch: pytest.MonkeyPatch,
    ) -> None:
        self.settings = settings
        self.provider = provider
        self.database = database
        self.book = Book(database)
        self.stub = stub
        self._patch = patch
        self.dispatchers: list[RunningDispatcher] = []

    async def dispatch(self, **overrides: Any) -> RunningDispatcher:
        """Start a dispatcher."""
        made: list[Any] = []
        for name, kind in (("Dispatcher", Dispatcher), ("Ownership", Ownership)):
            self._patch.setattr(dispatch_process, name, _recording(kind, made))
        settings = self.settings.model_copy(update={"grpc_port": free_ports(3), **overrides})
        stop = asyncio.Event()
        process = asyncio.create_task(dispatch_process.main(settings, stop))

        async def wired() -> bool:
            if process.done():
                process.result()
            return len(made) == 2

        await eventually(wired)
        ownership, dispatcher = sorted(made, key=lambda one: isinstance(one, Dispatcher))
        running = RunningDispatcher(process, stop, settings.grpc_port + 2, dispatcher, ownership)
        self.dispatchers.append(running)
        return running

    async def send(self, *bodies: str, **fields: Any) -> list[str]:
        """Send an SMS for each body in one call and return the ids."""
        base = {"sender": OURS, "recipient": CONTACT, **fields}
        answer = await self.stub.SendMessages(
            pb.SendMessagesRequest(requests=[pb.SendMessageRequest(body=body, **base) for body in bodies])
        )
        assert not [result.error for result in answer.results if result.HasField("error")]
        return [result.message.id for result in answer.results]

    async def until(self, state: str, *message_ids: str, within: float = 120.0) -> None:
        """Wait until messages are in a state."""

        async def reached() -> bool:
            left = await self.book.rows(
                "SELECT state FROM messages WHERE id = ANY(%s) AND state <> %s", list(message_ids), state
            )
            return not left

        await eventually(reached, within=within)

    async def bring_forward(self, seconds: float, *message_ids: str) -> None:
        """Move the times of scheduled messages, so that the first of them comes in so many seconds.

        By PostgreSQL's clock, and however long it took to schedule them.
        """
        ids = list(message_ids)
        await self.book.rows(
            "WITH early AS (SELECT min(send_time) - now() - make_interval(secs => %s) AS time"
            "   FROM messages WHERE id = ANY(%s)),"
            " moved AS (UPDATE messages SET send_time = send_time - early.time FROM early WHERE id = ANY(%s))"
            " UPDATE outbox SET due_time = due_time - early.time FROM early WHERE message_ids && %s::uuid[]"
            " AND subject LIKE 'posthouse.dispatch.%%'",
            seconds, ids, ids, ids,
        )  # fmt: skip

    async def make_due(self, *message_ids: str) -> None:
        """Let the time of scheduled messages come now."""
        await self.book.rows(
            "WITH due AS (UPDATE messages SET send_time = now() WHERE id = ANY(%s) AND state = 'scheduled'"
            " RETURNING id)"
            " UPDATE outbox SET due_time = now() WHERE owner IS NULL AND message_ids && %s::uuid[]",
            list(message_ids),
            list(message_ids),
        )

    async def until_true(self, statement: str) -> None:
        """Wait until a statement returns true."""
        await eventually(lambda: self.book.value(statement))

    async def until_published(self, count: int) -> None:
        """Wait until that many envelopes are in the broker."""
        client = await nats.connect(self.settings.nats_url)

        async def reached() -> bool:
            return (await client.jetstream().stream_info("DISPATCH")).state.messages >= count

        await eventually(reached)
        await client.close()

    async def until_outbox_is_empty(self) -> None:
        await self.until_true("SELECT count(*) = 0 FROM outbox")


def _recording(kind: Any, made: list[Any]) -> Any:
    def make(*arguments: Any, **options: Any) -> Any:
        made.append(kind(*arguments, **options))
        return made[-1]

    return make


@contextlib.asynccontextmanager
async def running_house(
    settings: Settings, provider: ScriptedProvider, patch: pytest.MonkeyPatch
) -> AsyncIterator[House]:
    """Yield a house with its message process running, and no dispatcher yet."""
    stop = asyncio.Event()
    buses: list[Bus] = []
    patch.setattr(message_process, "Bus", _recording(Bus, buses))
    process = asyncio.create_task(message_process.main(settings, stop))
    database = Database(settings.database_url, pool_size=8, timeout=60, name="test")
    await database.start()
    async with open_channel(settings.message_target) as channel:
        await asyncio.wait_for(channel.channel_ready(), 60)
        await asyncio.wait_for(buses[0].wait_ready(), 60)
        house = House(settings, provider, database, pb_grpc.MessageServiceStub(channel), patch)
        try:
            yield house
        finally:
            provider.gate.set()
            for running in house.dispatchers:
                await running.close()
            stop.set()
            await asyncio.wait_for(process, 60)
            await database.close()
