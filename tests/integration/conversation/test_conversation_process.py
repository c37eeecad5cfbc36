"""The process as a whole: it starts without PostgreSQL, finds it, and drains."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import psycopg
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sqlalchemy import make_url

from posthouse.v1 import conversation_service_pb2 as pb
from posthouse.v1 import conversation_service_pb2_grpc as pb_grpc
from services.conversation.__main__ import main
from services.kit.client import open_channel
from services.kit.config import Settings
from tests.integration.ledger.rows import eventually
from tests.servers import free_ports

from .conftest import Seed

pytestmark = pytest.mark.integration

_SERVICE = "posthouse.v1.ConversationService"


@asynccontextmanager
async def _running(database_url: str) -> AsyncIterator[grpc.aio.Channel]:
    # No NATS server is there, which reads do without.
    settings = Settings.model_validate(
        {"database_url": database_url, "grpc_port": free_ports(2), "ready_follows": "postgresql"}
    )
    stop = asyncio.Event()
    process = asyncio.create_task(main(settings, stop))
    try:
        async with open_channel(settings.conversation_target) as channel:
            await asyncio.wait_for(channel.channel_ready(), 60)
            yield channel
    finally:
        stop.set()
        await asyncio.wait_for(process, 60)


async def _wait_for_health(channel: grpc.aio.Channel, status: int) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    async with asyncio.timeout(60):
        for service in ("", _SERVICE):
            watch = stub.Watch(health_pb2.HealthCheckRequest(service=service))
            while (await watch.read()).status != status:
                pass
            watch.cancel()


async def test_serves_and_stops(database_url: str) -> None:
    async with _running(database_url) as channel:
        await _wait_for_health(channel, health_pb2.HealthCheckResponse.SERVING)
        stub: Any = pb_grpc.ConversationServiceStub(channel)
        assert not (await stub.ListConversations(pb.ListConversationsRequest())).conversations


async def test_a_message_is_found_soon_after_it_came(database_url: str, seed: Seed) -> None:
    async with _running(database_url) as channel:
        stub: Any = pb_grpc.ConversationServiceStub(channel)
        message = await seed.message(await seed.conversation(), body="hello there")

        async def found() -> list[str]:
            response = await stub.SearchMessages(pb.SearchMessagesRequest(query="hello"))
            return [hit.message.id for hit in response.hits]

        assert await eventually(found) == [message]


async def test_starts_without_postgresql(refusal: Callable[[Any], Any]) -> None:
    async with _running(f"postgresql://nobody@127.0.0.1:{free_ports(1)}/nothing") as channel:
        await _wait_for_health(channel, health_pb2.HealthCheckResponse.NOT_SERVING)
        error = await refusal(
            pb_grpc.ConversationServiceStub(channel).ListConversations(pb.ListConversationsRequest())
        )
        assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "DEPENDENCY_UNAVAILABLE")
        assert error.retry_after == 1


async def test_survives_postgresql_going_away_and_coming_back(
    database_url: str, empty_database_url: str, refusal: Callable[[Any], Any]
) -> None:
    async with _running(database_url) as channel:
        stub: Any = pb_grpc.ConversationServiceStub(channel)
        await _wait_for_health(channel, health_pb2.HealthCheckResponse.SERVING)
        # Nothing but this test's database goes away; the server is every test's.
        name = make_url(database_url).database
        with psycopg.connect(empty_database_url, autocommit=True) as other:
            other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
            other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            await _wait_for_health(channel, health_pb2.HealthCheckResponse.NOT_SERVING)
            error = await refusal(stub.ListConversations(pb.ListConversationsRequest()))
            assert error.reason == "DEPENDENCY_UNAVAILABLE"
            other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())
        await _wait_for_health(channel, health_pb2.HealthCheckResponse.SERVING)
        assert not (await stub.ListConversations(pb.ListConversationsRequest())).conversations
