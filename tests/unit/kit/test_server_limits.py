"""What a gRPC server refuses before its service hears of it."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from posthouse.v1 import message_service_pb2 as pb
from posthouse.v1 import message_service_pb2_grpc as pb_grpc
from services.kit.config import Settings
from services.kit.server import RpcServer

_MOST = 65_536


class _Service(pb_grpc.MessageServiceServicer):
    async def GetMessage(self, request: Any, _context: Any) -> pb.GetMessageResponse:  # noqa: N802
        return pb.GetMessageResponse(message={"id": request.message_id[:10]})


_Service.__abstractmethods__ = frozenset()  # only what the tests call is there


@pytest.fixture
async def stub() -> AsyncIterator[pb_grpc.MessageServiceStub]:
    settings = Settings.model_validate({"grpc_max_message_bytes": _MOST})
    server = RpcServer(settings, 0, "posthouse.v1.MessageService")
    pb_grpc.add_MessageServiceServicer_to_server(_Service(), server.server)  # type: ignore[abstract]
    await server.start()
    # Nothing of the client's own stands in the way.
    options = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=options) as channel:
        yield pb_grpc.MessageServiceStub(channel)
    await server.stop()


async def _code(stub: Any, size: int, *metadata: tuple[str, str]) -> grpc.StatusCode:
    try:
        await stub.GetMessage(pb.GetMessageRequest(message_id="x" * size), metadata=metadata, timeout=60)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_messages_have_a_limit(stub: Any) -> None:
    assert await _code(stub, _MOST - 100) is grpc.StatusCode.OK
    assert await _code(stub, _MOST + 1) is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_metadata_have_a_limit(stub: Any) -> None:
    assert await _code(stub, 1, ("x-note", "x" * 10_000)) is grpc.StatusCode.OK
    assert await _code(stub, 1, ("x-note", "x" * 100_000)) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await _code(stub, 1, *((f"x-{number}", "y" * 100) for number in range(1000))) is (
        grpc.StatusCode.RESOURCE_EXHAUSTED
    )
    # And the connection goes on.
    assert await _code(stub, 1) is grpc.StatusCode.OK
