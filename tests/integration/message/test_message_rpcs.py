"""Reads, cancellation and refusals through a real server, with the details of the rich error model."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from posthouse.v1 import message_pb2
from posthouse.v1 import message_service_pb2 as pb
from services.kit.ids import new_id
from services.kit.status import RemoteError
from tests.integration.ledger.rows import CONTACT, OURS, Book, make_draft, make_inbound, settlement_for

pytestmark = pytest.mark.integration

Refused = Callable[[Any], Awaitable[RemoteError]]


async def _send(stub: Any, **fields: Any) -> pb.AcceptedMessage:
    request = pb.SendMessageRequest(**{"sender": OURS, "recipient": CONTACT, "body": "hello", **fields})
    return (await stub.SendMessage(request)).message  # type: ignore[no-any-return]


async def test_a_message_is_read_as_it_was_sent(stub: Any) -> None:
    sent = await _send(
        stub,
        sender="Ann <ann@EXAMPLE.com>",
        recipient="bob@example.com",
        subject="Hi",
        html="<p>hello",
        metadata={"order": "7"},
        priority="PRIORITY_LOW",
        attachments=[message_pb2.Attachment(content=b"\0\xff", content_type="text/plain", filename="a.txt")],
    )
    message = (await stub.GetMessage(pb.GetMessageRequest(message_id=sent.id.upper()))).message
    assert (message.id, message.state, message.channel) == (
        sent.id,
        message_pb2.MESSAGE_STATE_PENDING,
        message_pb2.CHANNEL_EMAIL,
    )
    assert (message.sender, message.sender_original) == ("ann@example.com", "Ann <ann@EXAMPLE.com>")
    assert (message.subject, message.html, dict(message.metadata), message.priority) == (
        "Hi",
        "<p>hello",
        {"order": "7"},
        message_pb2.PRIORITY_LOW,
    )
    assert [(one.content, one.filename) for one in message.attachments] == [(b"\0\xff", "a.txt")]
    assert message.direction == message_pb2.DIRECTION_OUTBOUND
    assert message.create_time == sent.create_time


async def test_refusals_carry_every_violation_in_the_rich_error_model(stub: Any, book: Book) -> None:
    request = pb.SendMessageRequest(sender="", recipient="nobody", body="", request_id="a b")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.SendMessage(request)
    status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]
    assert status is not None
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert len(status.details) == 2
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(bad)
    assert (info.reason, info.domain) == ("INVALID_FIELD", "posthouse")
    fields = [violation.field for violation in bad.field_violations]
    assert set(fields) == {"sender", "recipient", "body", "request_id"}
    assert all(violation.description for violation in bad.field_violations)
    assert await book.value("SELECT count(*) FROM messages") == 0


async def test_a_channel_without_a_route_is_refused(stub: Any, refusal: Refused) -> None:
    error = await refusal(_send(stub, channel="CHANNEL_VOICE"))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_ROUTE")
    assert [violation.field for violation in error.violations] == ["channel"]


async def test_batches_have_bounds(stub: Any, refusal: Refused) -> None:
    calls: list[tuple[Any, str]] = []
    for size in (0, 1001):
        sends = pb.SendMessagesRequest(requests=[pb.SendMessageRequest()] * size)
        inbound = pb.ReceiveMessagesRequest(messages=[pb.InboundMessage()] * size)
        calls += [(stub.SendMessages(sends), "requests"), (stub.ReceiveMessages(inbound), "messages")]
    for call, field in calls:
        error = await refusal(call)
        assert (error.code, [v.field for v in error.violations]) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            [field],
        )


async def test_a_thousand_are_one_call(stub: Any, book: Book) -> None:
    one = pb.SendMessageRequest(sender=OURS, recipient=CONTACT, body="hello")
    answer = await stub.SendMessages(pb.SendMessagesRequest(requests=[one] * 1000))
    assert len({result.message.id for result in answer.results}) == 1000
    assert await book.value("SELECT count(*) FROM messages") == 1000


async def test_ids_that_name_no_message_are_refused(stub: Any, refusal: Refused) -> None:
    for rpc in ("GetMessage", "CancelMessage", "ListMessageEvents"):
        kind = getattr(pb, f"{rpc}Request")
        error = await refusal(getattr(stub, rpc)(kind(message_id=new_id())))
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "MESSAGE_NOT_FOUND")
        for wrong in ("", "7", "x" * 1000):
            error = await refusal(getattr(stub, rpc)(kind(message_id=wrong)))
            assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
            assert [violation.field for violation in error.violations] == ["message_id"]


async def test_messages_are_listed_in_pages_newest_first(stub: Any, book: Book, refusal: Refused) -> None:
    sent = [(await _send(stub)).id for _ in range(5)]
    await book.accept(make_inbound("1"))
    listed, token, pages = [], "", 0
    while pages == 0 or token:
        page = await stub.ListMessages(
            pb.ListMessagesRequest(page_size=2, page_token=token, direction="DIRECTION_OUTBOUND")
        )
        listed += [message.id for message in page.messages]
        token, pages = page.next_page_token, pages + 1
    assert (listed, pages) == (sent[::-1], 3)
    token = (await stub.ListMessages(pb.ListMessagesRequest(page_size=2))).next_page_token
    for request in (
        pb.ListMessagesRequest(page_size=2, page_token=token, direction="DIRECTION_OUTBOUND"),
        pb.ListMessagesRequest(page_token="x"),
    ):
        error = await refusal(stub.ListMessages(request))
        assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")
    unknown: Any = 99
    error = await refusal(stub.ListMessages(pb.ListMessagesRequest(state=unknown)))
    assert [violation.field for violation in error.violations] == ["state"]


async def test_the_history_of_a_message_is_listed_in_pages(stub: Any, book: Book) -> None:
    (message,) = await book.claimed(make_draft())
    await book.settle(settlement_for(message, "sent"))
    await book.receive(message.id, "undelivered", error_code="30003")
    first = await stub.ListMessageEvents(pb.ListMessageEventsRequest(message_id=message.id, page_size=3))
    rest = await stub.ListMessageEvents(
        pb.ListMessageEventsRequest(message_id=message.id, page_token=first.next_page_token)
    )
    events = [*first.events, *rest.events]
    assert [(event.sequence, event.type) for event in events] == [
        (1, "accepted"),
        (2, "sending"),
        (3, "sent"),
        (4, "undelivered"),
    ]
    assert (events[3].error_code, events[2].provider, events[2].attempt_number) == ("30003", "simulator", 1)
    assert not rest.next_page_token


async def test_what_waits_can_be_cancelled_once_and_for_all(stub: Any, book: Book) -> None:
    soon = Timestamp()
    soon.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
    for fields in ({}, {"send_time": soon}):
        message_id = (await _send(stub, **fields)).id
        for _ in range(2):
            answer = await stub.CancelMessage(pb.CancelMessageRequest(message_id=message_id))
            assert answer.message.state == message_pb2.MESSAGE_STATE_CANCELLED
        assert (await book.story(message_id))[1:] == ["cancelled"]


async def test_what_has_moved_on_cannot_be_cancelled(stub: Any, book: Book, refusal: Refused) -> None:
    (claimed,) = await book.claimed(make_draft())
    inbound = await book.accept(make_inbound("1"))
    for message_id in (claimed.id, *inbound.stored):
        before = await book.story(message_id)
        error = await refusal(stub.CancelMessage(pb.CancelMessageRequest(message_id=message_id)))
        assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "ILLEGAL_STATE")
        assert [violation.field for violation in error.violations] == ["message_id"]
        assert await book.story(message_id) == before
