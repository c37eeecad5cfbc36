"""A primary that takes no writes any more is as good as away, and nothing that was sent is forgotten."""

from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from posthouse.v1 import message_service_pb2 as pb
from services.kit.client import open_channel
from services.kit.errors import UnavailableError
from services.kit.status import from_rpc_error
from tests.integration.ledger.rows import CONTACT, OURS, eventually
from tests.integration.message.outage import read_only

from .house import House
from .scripted import ScriptedProvider

pytestmark = pytest.mark.integration


async def test_a_send_is_refused_for_now_and_what_was_sent_is_stored_once_it_can_be(
    house: House, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.gate.clear()
    running = await house.dispatch()
    settler = running.dispatcher._means.settler
    settle = settler.settle
    failures: list[BaseException] = []

    async def watched(*arguments: Any, **options: Any) -> None:
        try:
            await settle(*arguments, **options)
        except BaseException as error:
            failures.append(error)
            raise

    monkeypatch.setattr(settler, "settle", watched)
    (sent,) = await house.send("sent")

    async def asked() -> bool:
        return provider.bodies == ["sent"]

    async def refused() -> grpc.aio.AioRpcError | None:
        try:
            await house.stub.SendMessage(pb.SendMessageRequest(sender=OURS, recipient=CONTACT, body="other"))
        except grpc.aio.AioRpcError as error:
            return error
        return None

    async def ready() -> bool:
        async with open_channel(house.settings.message_target) as channel:
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def away() -> bool:
        return not await house.database.ping() and not await ready()

    async def failed() -> bool:
        return bool(failures)

    await eventually(asked)
    assert await house.database.ping()
    with read_only(house.settings.database_url):
        error = await eventually(refused)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert from_rpc_error(error).retry_after
        await eventually(away)
        provider.gate.set()
        await eventually(failed)
        assert await house.book.state(sent) == "sending"
    await house.until("sent", sent)
    assert await house.book.story(sent) == ["accepted", "sending", "sent"]
    assert provider.attempts()["sent"] == 1
    assert {type(failure) for failure in failures} == {UnavailableError}
    await eventually(ready)
