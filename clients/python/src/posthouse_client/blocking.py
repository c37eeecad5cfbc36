"""The client for threads: the methods of `AsyncPosthouse`, over grpc's own blocking calls."""

import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from posthouse.v1.conversation_service_pb2_grpc import ConversationServiceStub
from posthouse.v1.message_pb2 import Message
from posthouse.v1.message_service_pb2 import (
    AcceptedMessage,
    CancelMessageRequest,
    GetMessageRequest,
)
from posthouse.v1.message_service_pb2_grpc import MessageServiceStub
from posthouse_client.channels import Options
from posthouse_client.errors import PosthouseError, UnavailableError, WaitTimeoutError, from_rpc_error
from posthouse_client.outgoing import Outgoing, parts
from posthouse_client.retrying import Retries
from posthouse_client.updates import Progress, Update
from posthouse_client.waiting import is_delivered, pauses

_Response = TypeVar("_Response")


class Posthouse:
    """A client for any number of threads; use it as `with Posthouse(…) as posthouse`.

    Takes the fields of `Options`. `messages` and `conversations` are the stubs, for calls that have no method
    here; give them `metadata=posthouse.metadata`.
    """

    def __init__(self, target: str = "127.0.0.1:50051", **options: Any) -> None:
        self._options = Options(target, **options)
        self._channels = [self._open(self._options.target), self._open(self._options.watched)]
        self.messages = MessageServiceStub(self._channels[0])
        self.conversations = ConversationServiceStub(self._channels[1])
        self.metadata = self._options.metadata
        self._watches: weakref.WeakSet[Watch] = weakref.WeakSet()

    def send(self, **fields: Any) -> AcceptedMessage:
        """Send one message, given by the fields of `Outgoing`; return it once it is committed."""
        request = Outgoing(**fields).to_request()
        try:
            return self._call(self.messages.SendMessage, request).message
        except PosthouseError as error:
            error.request_id = request.request_id
            raise

    def send_many(self, messages: Sequence[Outgoing]) -> list[AcceptedMessage | PosthouseError]:
        """Send any number; return what became of each, in order. Raises for none of them."""
        results: list[AcceptedMessage | PosthouseError] = []
        for part in parts(messages, self._options.attempts):
            pause = part.pause
            while pause is not None:
                time.sleep(pause)
                try:
                    pause = part.take(self._once(self.messages.SendMessages, part.request))
                except PosthouseError as error:
                    pause = part.fail(error)
            results += part.results
        return results

    def get(self, message_id: str) -> Message:
        """Return a message as it is now."""
        return self._call(self.messages.GetMessage, GetMessageRequest(message_id=message_id)).message

    def cancel(self, message_id: str) -> Message:
        """Cancel a message that no dispatcher has claimed; PreconditionError where one has."""
        return self._call(self.messages.CancelMessage, CancelMessageRequest(message_id=message_id)).message

    def wait_until_delivered(
        self, message_id: str, *, timeout: float = 60.0, sent_is_enough: bool = False
    ) -> Message:
        """Return the message once it is delivered or read, within `timeout` seconds.

        `sent_is_enough` is for providers that report no delivery, such as SMTP. Raises NotDeliveredError when
        it fails, is cancelled or undelivered, and WaitTimeoutError.
        """
        deadline = time.monotonic() + timeout
        for pause in pauses():
            message = self.get(message_id)
            if is_delivered(message, sent_is_enough=sent_is_enough):
                break
            left = deadline - time.monotonic()
            if left <= 0:
                raise WaitTimeoutError(message)
            time.sleep(min(pause, left))
        return message

    def watch(self, *, conversation_id: str = "", participant: str = "", after: str = "") -> "Watch":
        """Begin to watch; what happens from the return on is seen. `after` is the position to resume from."""
        progress = Progress(conversation_id, participant, after, self._options.attempts)
        watch = Watch(self.conversations.WatchEvents, progress, self.metadata)
        self._watches.add(watch)
        watch.begin()
        return watch

    def close(self) -> None:
        """Close the connections; watches end."""
        for watch in tuple(self._watches):
            watch.close()
        for channel in self._channels:
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, target: str) -> grpc.Channel:
        credentials, arguments = self._options.credentials, self._options.arguments
        if credentials is None:
            return grpc.insecure_channel(target, options=arguments)
        return grpc.secure_channel(target, credentials, options=arguments)

    def _call(self, method: Callable[..., _Response], request: Any) -> _Response:
        retries = Retries(self._options.attempts)
        while True:
            try:
                return self._once(method, request)
            except PosthouseError as error:
                time.sleep(retries.pause_after(error))

    def _once(self, method: Callable[..., _Response], request: Any) -> _Response:
        try:
            return method(request, timeout=self._options.timeout, metadata=self.metadata)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error


class Watch:
    """Updates as they happen: `for update in watch`. A stream that breaks is taken up where it broke.

    `close`, from another thread, ends the loop.
    """

    def __init__(self, method: Callable[..., Any], progress: Progress, metadata: Any) -> None:
        self._method = method
        self._progress = progress
        self._metadata = metadata
        self._call: Any = None
        self._first: Update | None = None
        self._closed = False

    def begin(self) -> None:
        """Open the stream and wait for its first response."""
        while not self._closed:
            try:
                self._call = self._method(self._progress.request, metadata=self._metadata)
                if self._closed:  # in between, by another thread, which has not seen this call
                    self._call.cancel()
                self._first = self._read()
            except PosthouseError as error:
                self._pause(error)
            except ValueError:  # of grpc: the channel is closed
                if not self._closed:
                    raise
            else:
                return

    def __iter__(self) -> Iterator[Update]:
        while not self._closed:
            if self._first is not None:
                update: Update | None
                update, self._first = self._first, None
                yield update
            try:
                update = self._read()
            except PosthouseError as error:
                self._pause(error)
                self.begin()
                continue
            if update is not None:
                yield update

    def close(self) -> None:
        """End the stream."""
        self._closed = True
        if self._call is not None:
            self._call.cancel()

    def _read(self) -> Update | None:
        try:
            return self._progress.take(next(self._call))
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        except StopIteration:
            raise UnavailableError(
                grpc.StatusCode.UNAVAILABLE, "the stream has ended", reason="STREAM_ENDED"
            ) from None

    def _pause(self, error: PosthouseError) -> None:
        if not self._closed:
            time.sleep(self._progress.pause_after(error))
