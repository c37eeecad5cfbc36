"""Sends that leave the sender to a pool: a conversation keeps its number, and a new one gets any."""

from collections import Counter
from typing import Any

import grpc
import pytest

from posthouse.v1 import message_service_pb2 as pb
from services.kit.status import from_rpc_error
from tests.integration.ledger.rows import Book

from .conftest import StartProcess

pytestmark = pytest.mark.integration

_ONE, _TWO, _THREE = "+15550001111", "+15550002222", "+15550003333"
_POOLS = f"default={_ONE},{_TWO},hello@example.com support={_TWO},{_THREE} mail=a@example.com"


@pytest.fixture
async def pooled(start_process: StartProcess) -> Any:
    return await start_process(sender_pools=_POOLS)


def _request(recipient: str, **fields: Any) -> pb.SendMessageRequest:
    return pb.SendMessageRequest(recipient=recipient, body="hello", **fields)


async def _sender(stub: Any, request: pb.SendMessageRequest) -> str:
    return str((await stub.SendMessage(request)).message.sender)


async def test_a_new_recipient_gets_any_and_keeps_it(pooled: Any) -> None:
    numbers = [f"+1555987{number:04}" for number in range(60)]
    first = [await _sender(pooled, _request(number)) for number in numbers]
    assert min(Counter(first)[_ONE], Counter(first)[_TWO]) >= 10
    batch = pb.SendMessagesRequest(requests=[_request(number) for number in numbers])
    again = [result.message.sender for result in (await pooled.SendMessages(batch)).results]
    assert again == first


async def test_a_conversation_keeps_the_number_it_has(pooled: Any, book: Book) -> None:
    contact = "+15559876543"
    for sender in (_ONE, _TWO):
        await _sender(pooled, _request(contact, sender=sender))
        preview = await pooled.PreviewMessage(pb.PreviewMessageRequest(message=_request(contact)))
        assert (preview.sender, preview.sender_pool, preview.sender_kept) == (sender, "default", True)
        assert await _sender(pooled, _request(contact)) == sender
    # The contact has never heard from the other number of this pool.
    assert await _sender(pooled, _request(contact, sender_pool="support")) == _TWO
    assert await book.value("SELECT count(*) FROM conversations") == 2


async def test_the_channel_decides_who_of_a_pool_may_send(pooled: Any) -> None:
    assert await _sender(pooled, _request("ann@example.org")) == "hello@example.com"
    preview = await pooled.PreviewMessage(
        pb.PreviewMessageRequest(message=_request("ann@example.org", sender_pool="mail"))
    )
    assert (preview.acceptable, preview.sender, preview.sender_kept) == (True, "a@example.com", False)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"sender_pool": "nobody"}, "sender_pool"),
        ({"sender_pool": "mail"}, "sender_pool"),
        ({"sender_pool": "support", "sender": _ONE}, "sender_pool"),
        ({"sender_pool": "support", "recipient": "no address"}, "recipient"),
    ],
)
async def test_a_wrong_choice_names_the_field(pooled: Any, fields: dict[str, str], field: str) -> None:
    request = _request(**{"recipient": "+15559876543", **fields})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await pooled.SendMessage(request)
    error = from_rpc_error(caught.value)
    assert error.code == grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in error.violations] == [field]
    preview = await pooled.PreviewMessage(pb.PreviewMessageRequest(message=request))
    assert [violation.field for violation in preview.refusals[0].field_violations] == [field]


async def test_without_a_default_pool_a_sender_is_needed(stub: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.SendMessage(_request("+15559876543"))
    assert [violation.field for violation in from_rpc_error(caught.value).violations] == ["sender"]


async def test_a_repeat_gets_the_first_answer_even_if_another_would_be_chosen_now(pooled: Any) -> None:
    request = _request("+15559876543", request_id="once")
    first = (await pooled.SendMessage(request)).message
    other = _TWO if first.sender == _ONE else _ONE
    await _sender(pooled, _request("+15559876543", sender=other))
    again = (await pooled.SendMessage(request)).message
    assert (again.id, again.sender, again.replayed) == (first.id, first.sender, True)
