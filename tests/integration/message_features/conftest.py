"""A message process with a scripted provider, dispatchers on demand, and words for consent."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest

from posthouse.v1 import message_service_pb2 as pb
from services.kit.config import Settings
from services.kit.status import RemoteError, from_rpc_error
from services.providers import registry
from tests.integration.dispatch.house import House, running_house
from tests.integration.dispatch.scripted import ScriptedProvider
from tests.integration.ledger.rows import CONTACT, OURS


@pytest.fixture
async def provider() -> ScriptedProvider:
    return ScriptedProvider()


@pytest.fixture
async def house(
    settings: Settings, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[House]:
    monkeypatch.setattr(registry, "FACTORIES", {"scripted": lambda _: provider})
    own = settings.model_copy(
        update={
            "routes": "sms=scripted mms=scripted email=scripted",
            "dispatch_retry_base": 0.05,
            "dispatch_retry_max": 0.2,
            "dispatch_max_attempts": 3,
            "shutdown_grace": 2.0,
        }
    )
    async with running_house(own, provider, monkeypatch) as house:
        yield house


class Contact:
    """Somebody who writes to us; every message is a new one unless it carries a key."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._count = 0

    async def says(self, body: str, *, key: str = "", **fields: Any) -> pb.ReceiveResult:
        """Write a message and return what became of it."""
        self._count += 1
        message = {"sender": CONTACT, "recipient": OURS, "source": "test", "body": body, **fields}
        response = await self._house.stub.ReceiveMessages(
            pb.ReceiveMessagesRequest(
                messages=[pb.InboundMessage(event_id=key or f"said-{self._count}", **message)]
            )
        )
        (result,) = response.results
        assert not result.HasField("error"), result.error
        return result


@pytest.fixture
def contact(house: House) -> Contact:
    return Contact(house)


@pytest.fixture
def refusal() -> Callable[[Awaitable[Any]], Awaitable[RemoteError]]:
    """Return a function that awaits a call and returns the error it must be refused with."""

    async def refused(call: Awaitable[Any]) -> RemoteError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        return from_rpc_error(caught.value)

    return refused
