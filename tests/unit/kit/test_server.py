"""The server all services share: what it makes of refusals that are none of its own."""

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
