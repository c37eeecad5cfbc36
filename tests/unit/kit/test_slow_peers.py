"""Channels: a peer that is slow to answer the first packet is reached all the same."""

import asyncio
import contextlib

from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.kit.client import open_channel
from tests.unit.gateway.fakes import Fakes


async def test_a_peer_that_takes_its_time_is_reached() -> None:
    fakes = Fakes()
    server = await fakes.start()

    async def busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.5)
        there, back = await asyncio.open_connection("127.0.0.1", fakes.port)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await asyncio.gather(_pass_on(reader, back), _pass_on(there, writer))

    async with await asyncio.start_server(busy, "127.0.0.1", 0) as front:
        port = front.sockets[0].getsockname()[1]
        async with open_channel(f"127.0.0.1:{port}") as channel:
            request = health_pb2.HealthCheckRequest(service="posthouse.v1.MessageService")
            answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=60)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    await server.stop(None)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while content := await reader.read(65_536):
        writer.write(content)
        await writer.drain()
    writer.close()
