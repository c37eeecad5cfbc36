"""The server all services share: what it makes of refusals that are none of its own."""

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from services.kit.client import open_channel
from services.kit.config import Settings
from services.kit.server import RpcServer


async def test_a_call_that_a_library_refuses_ends_as_it_says_and_is_no_error_of_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = RpcServer(Settings.model_validate({}), 0, "posthouse.v1.MessageService")
    await server.start()
    try:
        async with open_channel(f"127.0.0.1:{server.port}") as channel:
            request = health_pb2.HealthCheckRequest(service="posthouse.v1.NoSuchService")
            with capture_logs() as logs, pytest.raises(grpc.aio.AioRpcError) as refused:
                await health_pb2_grpc.HealthStub(channel).Check(request, timeout=60)
    finally:
        await server.stop()
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert (logs, caplog.records) == ([], [])


async def test_a_server_that_retires_says_so_and_goes_on() -> None:
    server = RpcServer(Settings.model_validate({}), 0, "posthouse.v1.MessageService")
    await server.start()
    await server.set_serving(True)
    await server.report("nats", answers=True)
    retiring = asyncio.create_task(server.retire(600))
    try:
        async with open_channel(f"127.0.0.1:{server.port}") as channel:
            for name in ("", "posthouse.v1.MessageService", "nats"):
                watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=name))
                async with asyncio.timeout(60):
                    while (await watch.read()).status != health_pb2.HealthCheckResponse.NOT_SERVING:
                        pass
                watch.cancel()
                # What is seen meanwhile does not bring it back.
                await server.set_serving(True)
                await server.report("nats", answers=True)
            request = health_pb2.HealthCheckRequest(service="nats")
            answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=60)
            assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert not retiring.done()
    finally:
        retiring.cancel()
        await server.stop()
