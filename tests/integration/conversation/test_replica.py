"""Reads from a second PostgreSQL that streams from the first."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cli.embedded.postgres import EmbeddedPostgres, _environment
from cli.embedded.spawn import Process, kill, spawn, start, stop
from posthouse.v1 import conversation_service_pb2 as pb
from services.conversation.indexer import SearchIndexer
from services.ledger import database as module
from services.ledger.database import Database
from tests.integration.ledger.rows import eventually
from tests.servers import temporary_directory

from .conftest import Seed

pytestmark = pytest.mark.integration


class StandbyPostgres(EmbeddedPostgres):
    """A PostgreSQL made from a running one, which it follows."""

    def __init__(self, directory: Path, *, source: str) -> None:
        super().__init__(directory, log=directory.parent / "standby.log", settings={"fsync": "off"})
        self._source = source

    def _create_cluster(self) -> None:
        fresh = self.directory / "cluster.new"
        command = [str(self._programs / "pg_basebackup"), "-d", self._source, "-D", str(fresh)]
        command += ["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
        process = spawn(command, log=self.log, user=self._user, env=_environment(), cwd=self.directory)
        assert process.wait() == 0, self.log.read_text()
        fresh.rename(self._cluster)


class Standby:
    """The replica of a test, which may kill it and start it again."""

    def __init__(self, server: StandbyPostgres) -> None:
        self.server = server
        self.process: Process = start(server, timeout=180)

    def kill(self) -> None:
        kill(self.process)

    def start(self) -> None:
        self.process = start(self.server, timeout=60)


@pytest.fixture
def standby(database_url: str) -> Iterator[Standby]:
    with temporary_directory() as directory:
        running = Standby(StandbyPostgres(directory / "standby", source=database_url))
        yield running
        stop(running.server, running.process, timeout=60)


@pytest.fixture
async def database(database_url: str, standby: Standby) -> AsyncIterator[Database]:
    name = sa.make_url(database_url).database or ""
    database = Database(database_url, pool_size=10, timeout=60, name="test", replica=standby.server.dsn(name))
    yield database
    await database.close()


async def reads_from_replica(database: Database) -> bool:
    async with database.read() as connection:
        return bool(await connection.scalar(sa.text("SELECT pg_is_in_recovery()")))


async def test_reads_go_to_the_replica_and_writes_do_not(database: Database, stub: Any, seed: Seed) -> None:
    assert await reads_from_replica(database)
    async with database.write() as connection:
        assert not await connection.scalar(sa.text("SELECT pg_is_in_recovery()"))
    thread = await seed.conversation()
    await seed.message(thread, body="hello over there")
    indexer = SearchIndexer(database, share=1.0, settle=-1.0)
    while await indexer.run_once():
        pass

    async def found() -> bool:
        response = await stub.SearchMessages(pb.SearchMessagesRequest(query="hello"))
        return len(response.hits) == 1

    await eventually(found)
    stats = await stub.GetConversationStats(pb.GetConversationStatsRequest(conversation_id=thread))
    assert dict(stats.messages_by_direction) == {"inbound": 1}
    marked = await stub.MarkConversationRead(pb.MarkConversationReadRequest(conversation_id=thread))
    assert marked.conversation.unread_count == 0

    async def read() -> bool:
        response = await stub.GetConversation(pb.GetConversationRequest(conversation_id=thread))
        return bool(response.conversation.unread_count == 0)

    await eventually(read)


async def test_reads_go_on_while_the_replica_is_away(
    database: Database, standby: Standby, stub: Any, seed: Seed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REPLICA_PAUSE", 0.1)
    thread = await seed.conversation()
    assert await reads_from_replica(database)
    standby.kill()

    async def read() -> bool:
        return not await reads_from_replica(database)

    await eventually(read)
    await stub.GetConversation(pb.GetConversationRequest(conversation_id=thread))
    standby.start()

    async def back() -> bool:
        return await reads_from_replica(database)

    await eventually(back)
