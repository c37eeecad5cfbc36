"""The message process as it is, in this process, and clients of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest

from posthouse.v1 import message_service_pb2_grpc as pb_grpc
from services.kit.client import open_channel
from services.kit.config import Settings
from services.kit.status import RemoteError, from_rpc_error
from services.message.__main__ import main
from tests.servers import free_ports

StartProcess = Callable[..., Awaitable[Any]]


@pytest.fixture
async def start_process(settings: Settings) -> AsyncIterator[StartProcess]:
    """Start a message process, with settings of its own if need be, and return a stub of it."""
    async with AsyncExitStack() as stack:

        async def start(**overrides: Any) -> Any:
            own = settings.model_copy(update={"grpc_port": free_ports(1), **overrides})
            stop = asyncio.Event()
            process = asyncio.create_task(main(own, stop))

            async def end() -> None:
                stop.set()
                await asyncio.wait_for(process, 60)

            stack.push_async_callback(end)
            channel = await stack.enter_async_context(open_channel(own.message_target))
            await asyncio.wait_for(channel.channel_ready(), 60)
            return pb_grpc.MessageServiceStub(channel)

        yield start


@pytest.fixture
async def stub(start_process: StartProcess) -> Any:
    return await start_process()


@pytest.fixture
def refusal() -> Callable[[Any], Awaitable[RemoteError]]:
    """Return a function that awaits a call and returns the error it must be refused with."""

    async def refused(call: Any) -> RemoteError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        return from_rpc_error(caught.value)

    return refused
