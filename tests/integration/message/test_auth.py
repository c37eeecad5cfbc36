"""Authentication through the processes as they are: keys made, used, rotated and revoked."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import httpx2
import psycopg
import pytest
from google.protobuf.duration_pb2 import Duration
from typer.testing import CliRunner

import gateway.__main__
import services.message.__main__
from cli.main import app
from posthouse.v1 import auth_pb2, auth_service_pb2_grpc
from posthouse.v1 import auth_service_pb2 as auth
from posthouse.v1 import message_service_pb2 as pb
from posthouse.v1 import message_service_pb2_grpc as pb_grpc
from services.kit.client import open_channel
from services.kit.config import Settings
from services.kit.status import from_rpc_error
from tests.credentials import GATEWAY, PEPPER
from tests.servers import free_ports

SEND = {"from": "+15551234567", "to": "+15559876543", "body": "hello"}


@pytest.fixture
def guarded(settings: Settings) -> Settings:
    # The message process alone; of the others the gateway only sees that they are away.
    fields = {"api_key_secret": PEPPER, "gateway_token": GATEWAY, "grpc_port": free_ports(3)}
    return Settings.model_validate({**settings.model_dump(), **fields})


@pytest.fixture
async def channel(guarded: Settings) -> AsyncIterator[grpc.aio.Channel]:
    stop = asyncio.Event()
    process = asyncio.create_task(services.message.__main__.main(guarded, stop))
    async with open_channel(guarded.message_target) as channel:
        await asyncio.wait_for(channel.channel_ready(), 60)
        yield channel
    stop.set()
    await asyncio.wait_for(process, 60)


@pytest.fixture
def keys(guarded: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Awaitable[str]]:
    """Return a function that runs `posthouse keys`, and returns the last line it prints."""
    monkeypatch.setenv("DATABASE_URL", guarded.database_url)
    monkeypatch.setenv("POSTHOUSE_API_KEY_SECRET", PEPPER)

    async def run(*words: str) -> str:
        done = await asyncio.to_thread(CliRunner().invoke, app, ["keys", *words])
        assert done.exit_code == 0, done.output
        return done.output.strip().splitlines()[-1]

    return run


def key(secret: str) -> Any:
    return (("x-api-key", secret),)


async def refusal(call: Any) -> str:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error).reason
    return ""


async def until_refused(attempt: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while await refusal(attempt()) != "UNAUTHENTICATED":  # noqa: ASYNC110 - another process's state
            await asyncio.sleep(0.05)


async def test_the_life_of_a_key(
    channel: grpc.aio.Channel, keys: Callable[..., Awaitable[str]], guarded: Settings
) -> None:
    stub = auth_service_pb2_grpc.AuthServiceStub(channel)
    messages = pb_grpc.MessageServiceStub(channel)
    request = pb.SendMessageRequest(
        sender=SEND["from"], recipient=SEND["to"], body="hi", request_id="order-1"
    )
    admin = await keys("create", "operator", "--scope", "admin")
    made = await stub.CreateApiKey(
        auth.CreateApiKeyRequest(name="shop", scopes=[auth_pb2.SCOPE_SEND]), metadata=key(admin)
    )
    assert made.secret.startswith(made.api_key.prefix + "_")
    assert await refusal(messages.SendMessage(request)) == "UNAUTHENTICATED"
    first = (await messages.SendMessage(request, metadata=key(made.secret))).message
    listing = messages.ListMessages(pb.ListMessagesRequest(), metadata=key(made.secret))
    assert await refusal(listing) == "PERMISSION_DENIED"

    # Another caller's key of the same name is another key.
    other = (await messages.SendMessage(request, metadata=key(admin))).message
    assert (other.replayed, other.id == first.id) == (False, False)

    rotated = await stub.RotateApiKey(
        auth.RotateApiKeyRequest(api_key_id=made.api_key.id, overlap=Duration(seconds=3600)),
        metadata=key(admin),
    )
    assert rotated.api_key.id == made.api_key.id
    assert rotated.api_key.overlap_end_time.seconds > rotated.api_key.rotate_time.seconds
    for secret in (made.secret, rotated.secret):
        again = (await messages.SendMessage(request, metadata=key(secret))).message
        assert (again.replayed, again.id) == (True, first.id)

    last = await keys("rotate", made.api_key.id)
    await until_refused(lambda: stub.GetCaller(auth.GetCallerRequest(), metadata=key(rotated.secret)))
    assert (
        await refusal(stub.GetCaller(auth.GetCallerRequest(), metadata=key(made.secret))) == "UNAUTHENTICATED"
    )
    who = await stub.GetCaller(auth.GetCallerRequest(), metadata=(("authorization", f"Bearer {last}"),))
    assert (who.id, list(who.scopes)) == (f"key:{made.api_key.id}", [auth_pb2.SCOPE_SEND])

    revoked = await stub.RevokeApiKey(
        auth.RevokeApiKeyRequest(api_key_id=made.api_key.id), metadata=key(admin)
    )
    await until_refused(lambda: stub.GetCaller(auth.GetCallerRequest(), metadata=key(last)))
    twice = await stub.RevokeApiKey(auth.RevokeApiKeyRequest(api_key_id=made.api_key.id), metadata=key(admin))
    assert twice.api_key == revoked.api_key
    rotation = stub.RotateApiKey(auth.RotateApiKeyRequest(api_key_id=made.api_key.id), metadata=key(admin))
    assert await refusal(rotation) == "API_KEY_NOT_FOUND"

    shown = await stub.ListApiKeys(auth.ListApiKeysRequest(), metadata=key(admin))
    assert [item.name for item in shown.api_keys] == ["operator"]
    pages, token = [], ""
    while True:
        page = await stub.ListApiKeys(
            auth.ListApiKeysRequest(page_size=1, page_token=token, include_revoked=True), metadata=key(admin)
        )
        pages += [item.name for item in page.api_keys]
        token = page.next_page_token
        if not token:
            break
    assert pages == ["shop", "operator"]
    assert "operator" in await keys("list")
    with psycopg.connect(guarded.database_url) as connection:
        stored = str(connection.execute("SELECT * FROM api_keys").fetchall())
    for secret in (admin, made.secret, rotated.secret, last):
        assert secret not in stored
        assert secret.split("_", 2)[2] not in stored


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"scopes": [1]}, "name"),
        ({"name": "x" * 101, "scopes": [1]}, "name"),
        ({"name": "two\nlines", "scopes": [1]}, "name"),
        ({"name": "shop"}, "scopes"),
        ({"name": "shop", "scopes": [0]}, "scopes"),
        ({"name": "shop", "scopes": [99]}, "scopes"),
        ({"name": "shop", "scopes": [1], "expire_time": {"seconds": 1}}, "expire_time"),
    ],
)
async def test_what_no_key_can_be(
    channel: grpc.aio.Channel, keys: Callable[..., Awaitable[str]], fields: dict[str, Any], field: str
) -> None:
    stub = auth_service_pb2_grpc.AuthServiceStub(channel)
    admin = await keys("create", "operator", "--scope", "admin")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.CreateApiKey(auth.CreateApiKeyRequest(**fields), metadata=key(admin))
    assert [violation.field for violation in from_rpc_error(refused.value).violations] == [field]


async def test_the_gateway_in_front(
    channel: grpc.aio.Channel, keys: Callable[..., Awaitable[str]], guarded: Settings
) -> None:
    assert channel
    sender = await keys("create", "shop", "--scope", "send")
    reader = await keys("create", "desk", "--scope", "read", "--expires-in-days", "1")
    stop = asyncio.Event()
    process = asyncio.create_task(gateway.__main__.main(guarded, stop))
    url = f"http://127.0.0.1:{guarded.http_port}"
    async with httpx2.AsyncClient(base_url=url, timeout=60) as client:
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(httpx2.TransportError):
                    if (await client.get("/ready")).status_code == 200:
                        break
                await asyncio.sleep(0.05)
        path = "/api/v1/messages/send"
        assert (await client.post(path, json=SEND)).status_code == 401
        assert (await client.post(path, json=SEND, headers={"x-api-key": reader})).status_code == 403
        sent = await client.post(path, json=SEND, headers={"authorization": f"Bearer {sender}"})
        assert sent.status_code == 202
        place = f"/api/v1/messages/{sent.json()['id']}"
        assert (await client.get(place, headers={"x-api-key": sender})).status_code == 403
        assert (await client.get(place, headers={"x-api-key": reader})).status_code == 200
        # It is the signature that counts.
        assert (await client.post("/api/v1/webhooks/simulator", content=b"[]")).status_code == 403
    stop.set()
    await asyncio.wait_for(process, 60)


async def test_a_gateway_without_a_credential_of_its_own_does_not_start(guarded: Settings) -> None:
    with pytest.raises(ValueError, match="POSTHOUSE_GATEWAY_TOKEN: must be set"):
        await gateway.__main__.main(guarded.model_copy(update={"gateway_token": None}), asyncio.Event())
