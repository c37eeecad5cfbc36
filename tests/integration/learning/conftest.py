"""A message process and conversation processes on one ledger, with a register of tenants beside them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

import services.conversation.__main__ as conversation_process
import services.message.__main__ as message_process
from cli.monitor_simulator import MonitorSimulator
from posthouse.v1 import conversation_pb2, message_service_pb2_grpc
from posthouse.v1 import conversation_service_pb2 as conversation_pb
from posthouse.v1 import conversation_service_pb2_grpc as conversation_grpc
from posthouse.v1 import message_service_pb2 as pb
from services.kit.client import open_channel
from services.kit.config import Settings
from services.ledger.database import Database
from tests.integration.ledger.rows import CONTACT, OURS, Book
from tests.ports import free_ports


@pytest.fixture
async def monitor() -> AsyncIterator[MonitorSimulator]:
    simulator = MonitorSimulator()
    yield simulator
    await simulator.close()


@pytest.fixture
async def book(database_url: str) -> AsyncIterator[Book]:
    database = Database(database_url, pool_size=8, timeout=60, name="test")
    await database.start()
    yield Book(database)
    await database.close()


class Town:
    """The processes, and what contacts and people do with them."""

    def __init__(self, settings: Settings, stack: AsyncExitStack) -> None:
        self.settings = settings
        self._stack = stack
        self._count = 0
        self._messages: Any = None

    async def start(self) -> None:
        self._messages = await self._run(
            message_process.main, self.settings, 0, message_service_pb2_grpc.MessageServiceStub
        )

    async def converse(self, **overrides: Any) -> Any:
        """Start a conversation process and return a stub of it."""
        settings = self.settings.model_copy(update={"grpc_port": free_ports(3), **overrides})
        return await self._run(
            conversation_process.main, settings, 1, conversation_grpc.ConversationServiceStub
        )

    async def says(self, body: str, *, sender: str = CONTACT, recipient: str = OURS) -> pb.ReceiveResult:
        """Have a contact write; return what became of it."""
        self._count += 1
        message = pb.InboundMessage(
            source="test", event_id=str(self._count), sender=sender, recipient=recipient, body=body
        )
        answer = await self._messages.ReceiveMessages(pb.ReceiveMessagesRequest(messages=[message]))
        (result,) = answer.results
        assert not result.HasField("error"), result.error
        return result

    async def send(self, body: str, *, recipient: str = CONTACT) -> str:
        answer = await self._messages.SendMessage(
            pb.SendMessageRequest(sender=OURS, recipient=recipient, body=body)
        )
        found: str = answer.message.conversation_id
        return found

    async def _run(self, main: Any, settings: Settings, offset: int, stub: Any) -> Any:
        stop = asyncio.Event()
        process = asyncio.create_task(main(settings, stop))

        async def end() -> None:
            stop.set()
            await asyncio.wait_for(process, 60)

        self._stack.push_async_callback(end)
        channel = open_channel(f"127.0.0.1:{settings.grpc_port + offset}")
        await self._stack.enter_async_context(channel)
        await asyncio.wait_for(channel.channel_ready(), 60)
        return stub(channel)


@pytest.fixture
async def town(settings: Settings, monitor: MonitorSimulator) -> AsyncIterator[Town]:
    """A message process is running; the register listens, and knows nobody."""
    url = await monitor.start("127.0.0.1", 0)
    own = settings.model_copy(
        update={"monitor_api_url": url, "monitor_reconcile_interval": 0.2, "shutdown_grace": 2.0}
    )
    async with AsyncExitStack() as stack:
        town = Town(own, stack)
        await town.start()
        yield town


Read = Callable[[Any, str], Awaitable[conversation_pb2.Conversation]]


@pytest.fixture
def read() -> Read:
    """Return a function that reads one conversation."""

    async def get(stub: Any, conversation_id: str) -> conversation_pb2.Conversation:
        answer = await stub.GetConversation(
            conversation_pb.GetConversationRequest(conversation_id=conversation_id)
        )
        found: conversation_pb2.Conversation = answer.conversation
        return found

    return get
