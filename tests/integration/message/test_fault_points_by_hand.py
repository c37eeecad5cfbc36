"""A message process that is killed while people change consent, erase or hand out keys forgets nothing."""

import asyncio
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from posthouse.v1 import (
    auth_service_pb2,
    auth_service_pb2_grpc,
    privacy_service_pb2,
    privacy_service_pb2_grpc,
)
from posthouse.v1 import message_service_pb2 as pb
from posthouse.v1 import message_service_pb2_grpc as pb_grpc
from services.kit.client import open_channel
from services.kit.config import Settings
from services.ledger.database import Database
from services.message.api_keys import ApiKeyKeeper
from tests.credentials import GATEWAY, PEPPER
from tests.integration.ledger.rows import CONTACT, OURS, Book, eventually, make_draft, make_inbound

from .mortal import BY_HAND, mortal_process

pytestmark = pytest.mark.integration

PAIR = {"sender": OURS, "recipient": "+15550001111"}
# An opt-out is added, then lifted; a key is made, then revoked; an erasure takes three steps.
_TIMES = {"after_opt_out": 2, "after_api_key": 2, "erasure_step": 3}
PASSES = [
    f"{point}@{number}"
    for point in BY_HAND
    for number in range(1, 1 + next((n for end, n in _TIMES.items() if point.endswith(end)), 1))
]


@dataclass
class Done:
    """What was answered so far: nobody does that again."""

    steps: list[str] = field(default_factory=list)
    key_id: str = ""


async def _administer(settings: Settings, secret: str, done: Done) -> None:
    """Change consent, erase a person, make a key and revoke it, leaving out what is done."""
    credential: Any = (("x-api-key", secret),)

    async def call(method: Any, request: Any) -> Any:
        if type(request).__name__ in done.steps:
            return None
        answer = await method(request, timeout=60, metadata=credential)
        done.steps.append(type(request).__name__)
        return answer

    async with open_channel(settings.message_target) as channel:
        await asyncio.wait_for(channel.channel_ready(), 60)
        messages = pb_grpc.MessageServiceStub(channel)
        privacy = privacy_service_pb2_grpc.PrivacyServiceStub(channel)
        keys = auth_service_pb2_grpc.AuthServiceStub(channel)
        await call(messages.AddOptOut, pb.AddOptOutRequest(**PAIR))
        await call(messages.RemoveOptOut, pb.RemoveOptOutRequest(**PAIR))
        made = await call(
            keys.CreateApiKey, auth_service_pb2.CreateApiKeyRequest(name="till", scopes=["SCOPE_SEND"])
        )
        done.key_id = made.api_key.id if made else done.key_id
        await call(keys.RevokeApiKey, auth_service_pb2.RevokeApiKeyRequest(api_key_id=done.key_id))
        await call(privacy.EraseAddress, privacy_service_pb2.EraseAddressRequest(address=CONTACT))


@pytest.mark.parametrize("point", PASSES)
async def test_killed_at_any_point_it_goes_on_where_it_was(
    settings: Settings, database: Database, book: Book, point: str
) -> None:
    fields = {"api_key_secret": PEPPER, "gateway_token": GATEWAY, "outbox_republish_after": 0.5}
    settings = Settings.model_validate({**settings.model_dump(), **fields})
    _, secret = await ApiKeyKeeper(database, PEPPER).create("operator", ["admin"], None)
    await book.accept(*(make_draft(body=f"{n}") for n in range(3)))
    await book.accept(make_inbound("in-1", body="hi"), make_draft(recipient="+15550001111", body="stays"))

    done = Done()
    with mortal_process(settings, fault=point) as process:
        with suppress(grpc.aio.AioRpcError, TimeoutError):
            await _administer(settings, secret, done)
        await asyncio.to_thread(process.join, 60)
        assert process.exitcode == -signal.SIGKILL, "the fault point was never reached"

    with mortal_process(settings):
        await _administer(settings, secret, done)
        await eventually(lambda: book.value("SELECT bool_and(end_time IS NOT NULL) FROM erasures"))

        assert await book.rows("SELECT change FROM consent_events WHERE effective ORDER BY event_time") == [
            ("opted_out",),
            ("opted_in",),
        ]
        assert await book.value("SELECT count(*) FROM opt_outs") == 0
        assert await book.rows("SELECT body FROM messages") == [("stays",)]
        assert await book.value("SELECT count(*) FROM conversations") == 1
        # Each message was cancelled and erased once, and that is on record, whoever began anew.
        counts = "SELECT sum(cancelled_count), sum(message_count), sum(conversation_count) FROM erasures"
        assert await book.rows(counts) == [(3, 4, 1)]
        assert await book.value("SELECT count(*) FROM erasures WHERE address IS NOT NULL") == 0
        # Who never got the answer has no secret, and makes another key.
        made = await book.rows("SELECT id::text, revoke_time IS NOT NULL FROM api_keys WHERE name = 'till'")
        assert len(made) == (2 if point == "message.after_api_key@1" else 1)
        assert (done.key_id, True) in made
