"""Rows to read, and a real server to read them through."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
import sqlalchemy as sa
from sqlalchemy import event

from posthouse.v1 import conversation_service_pb2 as pb
from posthouse.v1 import conversation_service_pb2_grpc as pb_grpc
from services.conversation.feed import EventFeed
from services.conversation.indexer import SearchIndexer
from services.conversation.servicer import ConversationServicer
from services.conversation.watching import Watchers, WatchLimits
from services.kit.bus import Bus, BusConfig
from services.kit.client import open_channel
from services.kit.config import Settings
from services.kit.ids import new_id
from services.kit.server import RpcServer
from services.kit.status import RemoteError, from_rpc_error
from services.ledger.database import Database
from services.ledger.tables import (
    conversation_events,
    conversations,
    dispatch_attempts,
    message_events,
    messages,
)
from services.ledger.threading import conversation_id, conversation_key

OURS = "+15551234567"
CONTACT = "+15559876543"
START = datetime(2026, 3, 1, 12, tzinfo=UTC)

Find = Callable[..., Awaitable[list[str]]]


class Seed:
    """Writes rows as the services would, each a second after the one before unless told otherwise."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seconds = itertools.count()

    def next_time(self) -> datetime:
        return START + timedelta(seconds=next(self._seconds))

    async def conversation(
        self, contact: str = CONTACT, ours: str = OURS, family: str = "sms", **columns: Any
    ) -> str:
        first, second = conversation_key(family, ours, contact)
        time = self.next_time()
        row = {
            "id": conversation_id(family, ours, contact),
            "channel_family": family,
            "participant_a": first,
            "participant_b": second,
            "create_time": time,
            "last_message_time": time,
            "last_message_id": new_id(),
            **columns,
        }
        await self._insert(conversations, row)
        return str(row["id"])

    async def message(self, conversation: str, **columns: Any) -> str:
        time = self.next_time()
        row = {
            "id": new_id(),
            "conversation_id": conversation,
            "channel": "sms",
            "direction": "inbound",
            "state": "received",
            "sender": CONTACT,
            "recipient": OURS,
            "body": "hello",
            "priority": "normal",
            "create_time": time,
            "update_time": time,
            "message_time": time,
            **columns,
        }
        await self._insert(messages, row)
        counts: dict[Any, Any] = {
            "last_message_time": time,
            "message_count": conversations.c.message_count + 1,
        }
        if row["direction"] == "inbound":
            counts["inbound_count"] = conversations.c.inbound_count + 1
        async with self._database.write() as connection:
            await connection.execute(
                sa.update(conversations).where(conversations.c.id == conversation).values(counts)
            )
        return str(row["id"])

    async def event(self, message: str, sequence: int, type_: str, **columns: Any) -> None:
        row = {"message_id": message, "sequence": sequence, "type": type_, "create_time": self.next_time()}
        await self._insert(message_events, {**row, **columns})

    async def change(self, conversation: str, **columns: Any) -> None:
        row = {
            "id": new_id(),
            "conversation_id": conversation,
            "type": "language_changed",
            "create_time": self.next_time(),
            "source": "message",
        }
        await self._insert(conversation_events, {**row, **columns})

    async def attempt(self, message: str, number: int, outcome: str, **columns: Any) -> None:
        times = {"start_time": self.next_time(), "end_time": self.next_time()}
        row = {"message_id": message, "number": number, "outcome": outcome, "provider": "simulator", **times}
        await self._insert(dispatch_attempts, {**row, **columns})

    async def _insert(self, table: sa.Table, row: dict[str, Any]) -> None:
        async with self._database.write() as connection:
            await connection.execute(sa.insert(table).values(row))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, pool_size=10, timeout=60, name="test")
    yield database
    await database.close()


@pytest.fixture
def seed(database: Database) -> Seed:
    return Seed(database)


@pytest.fixture
def watchers(database: Database) -> Watchers:
    """Watchers of a broker that nobody connects to."""
    feed = EventFeed(Bus(BusConfig([], "test")), database, ring=1, backlog=1)
    return Watchers(feed, WatchLimits())


@pytest.fixture
async def stub(
    database_url: str, database: Database, watchers: Watchers
) -> "AsyncIterator[pb_grpc.ConversationServiceAsyncStub]":  # the class is in the stubs only
    settings = Settings.model_validate({"database_url": database_url})
    server = RpcServer(settings, 0, "posthouse.v1.ConversationService")
    pb_grpc.add_ConversationServiceServicer_to_server(ConversationServicer(database, watchers), server.server)
    await server.start()
    async with open_channel(f"127.0.0.1:{server.port}") as channel:
        yield pb_grpc.ConversationServiceStub(channel)
    await server.stop()


@pytest.fixture
def refusal() -> Callable[[Any], Any]:
    """Return a function that awaits a call and returns the error it must be refused with."""

    async def refused(call: Any) -> RemoteError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        return from_rpc_error(caught.value)

    return refused


@pytest.fixture
def indexer(database: Database) -> SearchIndexer:
    return SearchIndexer(database, share=1.0, settle=-1.0, late=-1.0)


@pytest.fixture
def find(stub: Any, indexer: SearchIndexer) -> Find:
    """Return a function that brings search up to date and returns the ids found."""

    async def found(query: str, **fields: Any) -> list[str]:
        while await indexer.run_once():
            pass
        response = await stub.SearchMessages(pb.SearchMessagesRequest(query=query, **fields))
        return [hit.message.id for hit in response.hits]

    return found


@pytest.fixture
def explain(database: Database) -> Callable[..., Any]:
    """Return a function that runs a query function and returns the plans of the statements it made."""

    async def plans(query: Callable[..., Any], *arguments: Any, **options: Any) -> str:
        async with database.read() as connection:
            made: list[tuple[str, Any]] = []

            def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
                made.append((statement, parameters))

            event.listen(connection.sync_connection, "before_cursor_execute", note)
            await query(connection, *arguments, **options)
            event.remove(connection.sync_connection, "before_cursor_execute", note)
            lines = []
            for statement, parameters in made:
                found = await connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
                lines += [row[0] for row in found]
        return "\n".join(lines)

    return plans
