"""Two providers on one route, and DispatchService as a person steers it."""

import contextlib
from collections.abc import AsyncIterator

import pytest

from posthouse.v1 import dispatch_service_pb2 as pb
from posthouse.v1 import dispatch_service_pb2_grpc as pb_grpc
from services.kit.client import open_channel
from services.providers import registry

from .house import RunningDispatcher
from .scripted import ScriptedProvider

# Routes of two providers.
BOTH = "sms=scripted,second"


class SecondProvider(ScriptedProvider):
    """Another one, with scripts of its own."""

    name = "second"


def install(patch: pytest.MonkeyPatch, first: ScriptedProvider) -> SecondProvider:
    """Have routes know a second provider, and return it."""
    second = SecondProvider()
    patch.setattr(registry, "FACTORIES", {"scripted": lambda _: first, "second": lambda _: second})
    return second


@contextlib.asynccontextmanager
async def steering(running: RunningDispatcher) -> AsyncIterator["pb_grpc.DispatchServiceAsyncStub"]:
    """Yield a stub of a dispatcher's service."""
    async with open_channel(f"127.0.0.1:{running.port}") as channel:
        yield pb_grpc.DispatchServiceStub(channel)


async def breaker_states(stub: "pb_grpc.DispatchServiceAsyncStub", channel: int = 1) -> dict[str, int]:
    """Return the breakers' states by provider, for one channel (SMS)."""
    listed = await stub.ListProviders(pb.ListProvidersRequest())
    return {one.name: one.breaker_state for one in listed.providers if one.channel == channel}
