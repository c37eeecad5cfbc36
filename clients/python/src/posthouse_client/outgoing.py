"""Messages to send: how they are written down, and how a batch of them gets through."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from posthouse.v1 import message_pb2
from posthouse.v1.message_service_pb2 import (
    AcceptedMessage,
    SendMessageRequest,
    SendMessagesRequest,
    SendMessagesResponse,
)
from posthouse_client.errors import InvalidRequestError, PosthouseError, from_item_error
from posthouse_client.retrying import Retries, is_passing

_MOST = 1000
# Half of what a server takes in one call.
_MOST_BYTES = 16 * 1024 * 1024

Channel = Literal["", "sms", "mms", "email"]
Priority = Literal["", "high", "normal", "low"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One message to send; what is empty is not said. Times must have a zone.

    `sender` may be empty where the server has a pool to choose from. `channel` empty: detected. `media` are
    http(s) addresses; `attachments` are whole Attachments, for e-mail also with content. `request_id` is the
    idempotency key: by default a new one, so that retries within a call are safe; give one of your own to be
    safe beyond it.
    """

    recipient: str
    sender: str = ""
    body: str = ""
    channel: Channel = ""
    subject: str = ""
    html: str = ""
    media: Sequence[str] = ()
    attachments: Sequence[message_pb2.Attachment] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    send_time: datetime | None = None
    expire_time: datetime | None = None
    priority: Priority = ""
    request_id: str = ""
    fail_fast: bool = False
    transactional: bool = False
    sender_pool: str = ""
    reply_to: str = ""

    def to_request(self) -> SendMessageRequest:
        """Return the request of the contract, with an idempotency key in any case."""
        return SendMessageRequest(
            sender=self.sender,
            recipient=self.recipient,
            channel=f"CHANNEL_{self.channel.upper() or 'UNSPECIFIED'}",
            body=self.body,
            subject=self.subject,
            html=self.html,
            attachments=[*(message_pb2.Attachment(url=url) for url in self.media), *self.attachments],
            metadata=dict(self.metadata),
            send_time=_timestamp(self.send_time),
            expire_time=_timestamp(self.expire_time),
            priority=f"PRIORITY_{self.priority.upper() or 'UNSPECIFIED'}",
            request_id=self.request_id or str(uuid.uuid4()),
            fail_fast=self.fail_fast,
            transactional=self.transactional,
            sender_pool=self.sender_pool,
            reply_to=self.reply_to,
        )


def _timestamp(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone")
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


class Part:
    """Up to 1,000 messages on their way: which must be sent again, and what became of the others.

    Whoever does the calls waits for as long as `pause` says, asks for `request`, hands in the answer to
    `take` or `fail`, which say how long to wait next, and goes on until it is None.
    """

    def __init__(self, requests: Sequence[SendMessageRequest | PosthouseError], retries: Retries) -> None:
        self._requests = [each for each in requests if isinstance(each, SendMessageRequest)]
        self._places = [place for place, each in enumerate(requests) if isinstance(each, SendMessageRequest)]
        self._retries = retries
        self._waiting = list(range(len(self._requests)))
        self._results: list[AcceptedMessage | PosthouseError | None] = [
            None if isinstance(each, SendMessageRequest) else each for each in requests
        ]

    @property
    def pause(self) -> float | None:
        """Return the seconds until the first call, None when none is to be made."""
        return 0.0 if self._waiting else None

    @property
    def request(self) -> SendMessagesRequest:
        """Return the call that is to be made next."""
        return SendMessagesRequest(requests=[self._requests[place] for place in self._waiting])

    def take(self, response: SendMessagesResponse) -> float | None:
        """Note an answer; return the seconds until the next call, None when nothing is left to call for."""
        refused = []
        for place, result in zip(self._waiting, response.results, strict=True):
            if result.HasField("message"):
                self._results[self._places[place]] = result.message
                continue
            error = from_item_error(result.error)
            self._refuse(place, error)
            if is_passing(error):
                refused.append((place, error))
        self._waiting = [place for place, _ in refused]
        return self._pause(max((error for _, error in refused), key=_wish)) if refused else None

    def fail(self, error: PosthouseError) -> float | None:
        """Note that a call failed as a whole; return as `take` does."""
        for place in self._waiting:
            self._refuse(place, error)
        return self._pause(error)

    @property
    def results(self) -> list[AcceptedMessage | PosthouseError]:
        """Return what became of each message, in order."""
        return [result for result in self._results if result is not None]

    def _refuse(self, place: int, error: PosthouseError) -> None:
        self._results[self._places[place]] = error.of_request(self._requests[place].request_id)

    def _pause(self, error: PosthouseError) -> float | None:
        try:
            return self._retries.pause_after(error)
        except PosthouseError:
            return None


def _wish(error: PosthouseError) -> float:
    return error.retry_after or 0.0


def parts(messages: Sequence[Outgoing], attempts: int) -> Iterator[Part]:
    """Cut messages into parts of at most 1,000 and 16 MiB, unless one alone is larger."""
    requests: list[SendMessageRequest | PosthouseError] = []
    size = 0
    for message in messages:
        request = _request_of(message)
        more = request.ByteSize() if isinstance(request, SendMessageRequest) else 0
        if requests and (len(requests) == _MOST or size + more > _MOST_BYTES):
            yield Part(requests, Retries(attempts))
            requests, size = [], 0
        requests.append(request)
        size += more
    if requests:
        yield Part(requests, Retries(attempts))


def _request_of(message: Outgoing) -> SendMessageRequest | PosthouseError:
    """Return the request of a message, or why it cannot be one: no reason to forget what became of others."""
    try:
        return message.to_request()
    except (TypeError, ValueError) as error:
        refusal = InvalidRequestError(grpc.StatusCode.INVALID_ARGUMENT, str(error), reason="INVALID_FIELD")
        refusal.request_id = message.request_id or None
        return refusal
