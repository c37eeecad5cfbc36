"""A provider for a new channel comes from another package: an entry point, a route, and no line of ours."""

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from posthouse.v1 import dispatch_service_pb2, dispatch_service_pb2_grpc, message_pb2
from posthouse.v1 import message_service_pb2 as pb
from services.kit.client import open_channel
from services.kit.config import Settings
from tests.integration.ledger.rows import CONTACT, OURS

from . import switchboard
from .house import House, running_house
from .scripted import ScriptedProvider

pytestmark = pytest.mark.integration


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[switchboard.Switchboard]]:
    """Install a package that offers the switchboard, and return what is made of it."""
    package = tmp_path / "switchboard-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: switchboard\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(
        f"[posthouse.providers]\nswitchboard = {switchboard.__name__}:make\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield switchboard.built
    switchboard.built.clear()


def _webhook(said: dict[str, str]) -> pb.IngestWebhookRequest:
    headers = [pb.Header(name="X-Switchboard", value="it is me")]
    return pb.IngestWebhookRequest(
        provider="switchboard", method="POST", url="https://x.test", headers=headers, body=orjson.dumps(said)
    )


async def test_voice_goes_out_and_comes_in(
    impatient: Settings,
    provider: ScriptedProvider,
    installed: list[switchboard.Switchboard],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = impatient.model_copy(update={"routes": "sms=scripted voice=switchboard"})
    async with running_house(settings, provider, monkeypatch) as house:
        await house.dispatch()
        (called,) = await house.send("good morning", channel="CHANNEL_VOICE")
        (texted,) = await house.send("good morning")
        await house.until("sent", called, texted)
        assert [[call.body for call in one.calls] for one in installed] == [[], ["good morning"]]
        assert provider.bodies == ["good morning"]
        await house.stub.IngestWebhook(_webhook({"id": "1", "what": "answered", "message": called}))
        await house.until("delivered", called)
        assert await house.book.story(called) == ["accepted", "sending", "sent", "delivered"]
        answer = await house.stub.IngestWebhook(
            _webhook({"id": "2", "what": "call", "from": CONTACT, "to": OURS, "words": "good evening"})
        )
        assert (answer.content_type, answer.body, answer.applied_count) == ("text/xml", b"<Hangup/>", 1)
        found = (await house.stub.GetMessage(pb.GetMessageRequest(message_id=called))).message
        page = await house.stub.ListMessages(pb.ListMessagesRequest(conversation_id=found.conversation_id))
        assert [(message.channel, message.body) for message in page.messages] == [
            (message_pb2.CHANNEL_VOICE, "good evening"),
            (message_pb2.CHANNEL_VOICE, "good morning"),
        ]
        assert await _route_of_voice(house) == [("switchboard", 1)]


async def _route_of_voice(house: House) -> list[tuple[str, int]]:
    async with open_channel(f"127.0.0.1:{house.dispatchers[0].port}") as channel:
        stub = dispatch_service_pb2_grpc.DispatchServiceStub(channel)
        listed = await stub.ListProviders(dispatch_service_pb2.ListProvidersRequest())
    routed = [one for one in listed.providers if one.route_position]
    return [(one.name, one.route_position) for one in routed if one.channel == message_pb2.CHANNEL_VOICE]
