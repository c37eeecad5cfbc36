"""The client for asyncio."""

import asyncio
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from posthouse.v1.conversation_service_pb2 import WatchEventsResponse
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


class AsyncPosthouse:
    """A client for one event loop; use it as `async with AsyncPosthouse(…) as posthouse`.

    Takes the fields of `Options`. `messages` and `conversations` are the stubs, for calls that have no method
    here; give them `metadata=posthouse.metadata`.
    """

    def __init__(self, target: str = "127.0.0.1:50051", **options: Any) -> None:
        self._options = Options(target, **options)
        self._channels = [self._open(self._options.target), self._open(self._options.watched)]
        self.messages: Any = MessageServiceStub(self._channels[0])
        self.conversations: Any = ConversationServiceStub(self._channels[1])
        self.metadata = self._options.metadata
        self._watches: weakref.WeakSet[AsyncWatch] = weakref.WeakSet()

    async def send(self, **fields: Any) -> AcceptedMessage:
        """Send one message, given by the fields of `Outgoing`; return it once it is committed."""
        request = Outgoing(**fields).to_request()
        try:
            response = await self._call(self.messages.SendMessage, request)
        except PosthouseError as error:
            error.request_id = request.request_id
            raise
        accepted: AcceptedMessage = response.message
        return accepted

    async def send_many(self, messages: Sequence[Outgoing]) -> list[AcceptedMessage | PosthouseError]:
        """Send any number; return what became of each, in order. Raises for none of them."""
        results: list[AcceptedMessage | PosthouseError] = []
        for part in parts(messages, self._options.attempts):
            pause = part.pause
            while pause is not None:
                await asyncio.sleep(pause)
                try:
                    pause = part.take(await self._once(self.messages.SendMessages, part.request))
                except PosthouseError as error:
                    pause = part.fail(error)
            results += part.results
        return results

    async def get(self, message_id: str) -> Message:
        """Return a message as it is now."""
        response = await self._call(self.messages.GetMessage, GetMessageRequest(message_id=message_id))
        message: Message = response.message
        return message

    async def cancel(self, message_id: str) -> Message:
        """Cancel a message that no dispatcher has claimed; PreconditionError where one has."""
        response = await self._call(self.messages.CancelMessage, CancelMessageRequest(message_id=message_id))
        message: Message = response.message
        return message

    async def wait_until_delivered(
        self,
        message_id: str,
        *,
        timeout: float = 60.0,  # noqa: ASYNC109 - as in the other client; it is an error of its own
        sent_is_enough: bool = False,
    ) -> Message:
        """Return the message once it is delivered or read, within `timeout` seconds.

        `sent_is_enough` is for providers that report no delivery, such as SMTP. Raises NotDeliveredError when
        it fails, is cancelled or undelivered, and WaitTimeoutError.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        for pause in pauses():
            message = await self.get(message_id)
            if is_delivered(message, sent_is_enough=sent_is_enough):
                break
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                raise WaitTimeoutError(message)
            await asyncio.sleep(min(pause, left))
        return message

    async def watch(
        self, *, conversation_id: str = "", participant: str = "", after: str = ""
    ) -> "AsyncWatch":
        """Begin to watch; what happens from the return on is seen. `after` is the position to resume from."""
        progress = Progress(conversation_id, participant, after, self._options.attempts)
        watch = AsyncWatch(self.conversations.WatchEvents, progress, self.metadata, self._options.timeout)
        self._watches.add(watch)
        await watch.begin()
        return watch

    async def close(self) -> None:
        """Close the connections; watches end."""
        for watch in self._watches:
            watch.close()
        for channel in self._channels:
            await channel.close(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _open(self, target: str) -> grpc.aio.Channel:
        credentials, arguments = self._options.credentials, self._options.arguments
        if credentials is None:
            return grpc.aio.insecure_channel(target, options=arguments)
        return grpc.aio.secure_channel(target, credentials, options=arguments)

    async def _call(self, method: Callable[..., Awaitable[_Response]], request: Any) -> _Response:
        retries = Retries(self._options.attempts)
        while True:
            try:
                return await self._once(method, request)
            except PosthouseError as error:
                await asyncio.sleep(retries.pause_after(error))

    async def _once(self, method: Callable[..., Awaitable[_Response]], request: Any) -> _Response:
        try:
            return await method(request, timeout=self._options.timeout, metadata=self.metadata)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error


class AsyncWatch:
    """Updates as they happen: `async for update in watch`.

    A stream that breaks is taken up where it broke. `close`, from another task, ends the loop.
    """

    def __init__(
        self, method: Callable[..., Any], progress: Progress, metadata: Any, patience: float
    ) -> None:
        self._method = method
        self._progress = progress
        self._metadata = metadata
        self._patience = patience
        self._call: Any = None
        self._first: Update | None = None
        self._closed = False

    async def begin(self) -> None:
        """Open the stream and wait for its first response."""
        while not self._closed:
            self._call = self._method(self._progress.request, metadata=self._metadata)
            try:
                async with asyncio.timeout(self._patience):
                    self._first = self._progress.take(await self._read())
            except TimeoutError:
                self._call.cancel()
                await self._pause(_silent())
            except PosthouseError as error:
                await self._pause(error)
            else:
                return

    async def __aiter__(self) -> AsyncIterator[Update]:
        while not self._closed:
            update: Update | None
            if self._first is not None:
                update, self._first = self._first, None
                yield update
            try:
                update = self._progress.take(await self._read())
            except PosthouseError as error:
                await self._pause(error)
                await self.begin()
                continue
            if update is not None:
                yield update

    def close(self) -> None:
        """End the stream."""
        self._closed = True
        if self._call is not None:
            self._call.cancel()

    async def _read(self) -> WatchEventsResponse:
        try:
            response = await self._call.read()
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        except asyncio.CancelledError:
            # grpc.aio raises it of a call that was cancelled, whoever has cancelled what.
            task = asyncio.current_task()
            if not self._closed or task is None or task.cancelling():
                raise
            raise _silent() from None
        if not isinstance(response, WatchEventsResponse):  # grpc.aio.EOF
            raise _silent()
        return response

    async def _pause(self, error: PosthouseError) -> None:
        if not self._closed:
            await asyncio.sleep(self._progress.pause_after(error))


def _silent() -> UnavailableError:
    return UnavailableError(
        grpc.StatusCode.UNAVAILABLE, "the stream has ended or never began", reason="STREAM_ENDED"
    )
