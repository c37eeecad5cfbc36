"""The Python client, installed from its wheel, against a running stack."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from posthouse.v1.message_pb2 import MESSAGE_STATE_DELIVERED
from posthouse.v1.message_service_pb2 import AcceptedMessage
from posthouse_client import (
    AsyncPosthouse,
    InvalidRequestError,
    NotFoundError,
    Outgoing,
    Posthouse,
    PreconditionError,
)
from tests.e2e.stack import E2eStack

pytestmark = pytest.mark.integration

_CLIENT = Path(__file__).parents[2] / "clients" / "python"


def _target(stack: E2eStack) -> str:
    return f"127.0.0.1:{stack.grpc_port}"


def test_sync_sends_watches_and_waits(stack: E2eStack) -> None:
    with Posthouse(_target(stack), timeout=60) as posthouse:
        contact = "+15559870101"
        watch = posthouse.watch(participant=contact)
        sent = posthouse.send(sender="+15551234567", recipient=contact, body="Hello", request_id="sync-1")
        again = posthouse.send(sender="+15551234567", recipient=contact, body="Hello", request_id="sync-1")
        assert (again.id, again.replayed) == (sent.id, True)
        assert posthouse.wait_until_delivered(sent.id).state == MESSAGE_STATE_DELIVERED
        types = []
        for update in watch:
            assert update.event is not None
            if update.event.message_id == sent.id:
                types.append(update.event.type)
            if types[-1:] == ["delivered"]:
                break
        watch.close()
        assert types == ["accepted", "sending", "sent", "delivered"]
        with pytest.raises(PreconditionError) as reused:
            posthouse.send(sender="+15551234567", recipient=contact, body="Other", request_id="sync-1")
        assert reused.value.reason == "IDEMPOTENCY_KEY_REUSED"
        with pytest.raises(NotFoundError):
            posthouse.get("01a2013f-97bb-731e-867d-9ae1d95a84cc")


async def test_async_sends_many_watches_and_waits(stack: E2eStack) -> None:
    async with AsyncPosthouse(_target(stack), timeout=60) as posthouse:
        contact = "+15559870102"
        watch = await posthouse.watch(participant=contact)
        messages = [Outgoing(sender="+15551234567", recipient=contact, body=f"No. {n}") for n in range(5)]
        messages[2] = Outgoing(sender="+15551234567", recipient="nobody", body="No. 2")
        results = await posthouse.send_many(messages)
        refusal = results[2]
        assert isinstance(refusal, InvalidRequestError)
        assert [violation.field for violation in refusal.violations] == ["recipient"]
        accepted = {result.id for result in results if isinstance(result, AcceptedMessage)}
        assert len(accepted) == 4
        delivered: set[str] = set()
        async for update in watch:
            assert update.event is not None
            if update.event.type == "delivered":
                delivered.add(update.event.message_id)
            if delivered == accepted:
                break
        watch.close()
        for message_id in accepted:
            assert (await posthouse.wait_until_delivered(message_id)).state == MESSAGE_STATE_DELIVERED


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the client as its wheel installs it; what it requires is in this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, check=True, cwd=_CLIENT, capture_output=True)  # noqa: S603 - our own
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_installed_wheel_sends(stack: E2eStack, installed: Path) -> None:
    assert (installed / "posthouse" / "v1" / "message_service_pb2_grpc.py").is_file()
    assert (installed / "posthouse_client" / "py.typed").is_file()
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    where = "import posthouse, posthouse_client; print(posthouse.__file__, posthouse_client.__file__)"
    result = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-c", where],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
        cwd=installed,
    )
    assert all(path.startswith(str(installed)) for path in result.stdout.split())
    example = [str(_CLIENT / "examples" / "send.py"), _target(stack), "+15551234567", "+15559870103", "Hello"]
    result = subprocess.run(  # noqa: S603 - our own
        [sys.executable, *example],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        cwd=installed,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "delivered by simulator"
