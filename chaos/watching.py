"""Watchers that are cut off again and again and come back with the last id they have, over SSE and gRPC."""

import contextlib
import json
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
import httpx2

from posthouse.v1 import conversation_service_pb2 as pb
from posthouse.v1 import conversation_service_pb2_grpc as pb_grpc
from tests.e2e.stack import E2eStack

# Seconds without a line after which a watcher comes again, and between two tries to connect.
_SILENCE, _RETRY = 5.0, 0.1


class Watcher:
    """Sees what happens to one address, in a thread of its own, `pause` seconds at a time on average."""

    def __init__(
        self, stack: E2eStack, participant: str, *, over: str, draw: random.Random, pause: float
    ) -> None:
        self.over = over
        self.position = ""
        # Ids of events in the order they came; connections after the first; what the stream said of itself.
        self.seen: list[str] = []
        self.resumes = 0
        self.gaps = 0
        self._stack = stack
        self._participant = participant
        self._draw = draw
        self._pause = pause
        self._done = threading.Event()
        self._cancel: Callable[[], Any] = lambda: None
        self._failure: BaseException | None = None
        self._http = httpx2.Client(timeout=_SILENCE, trust_env=False)
        self._thread = threading.Thread(target=self._run, name=f"chaos-watcher-{over}")
        self._thread.start()

    def check(self) -> None:
        """Raise what has ended the watcher, if anything has."""
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Leave."""
        self._done.set()
        self._cancel()
        self._thread.join()
        self._http.close()

    def _run(self) -> None:
        watch = self._watch_sse if self.over == "SSE" else self._watch_grpc
        try:
            while not self._done.is_set():
                before = self.position
                with contextlib.suppress(httpx2.TransportError, grpc.RpcError):
                    watch(time.monotonic() + self._draw.uniform(0.0, 2 * self._pause))
                # One that could not connect has not come back.
                self.resumes += self.position != before
                self._done.wait(_RETRY)
        except BaseException as error:  # noqa: BLE001 - it is raised where the watcher is used
            self._failure = error

    def _watch_sse(self, deadline: float) -> None:
        headers = {"Last-Event-ID": self.position} if self.position else {}
        url, params = f"{self._stack.url}/api/v1/events", {"participant": self._participant}
        fields: dict[str, str] = {}
        with self._http.stream("GET", url, params=params, headers=headers) as response:
            if response.status_code != httpx2.codes.OK:
                return
            for line in response.iter_lines():
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                    continue
                self.gaps += fields.get("event") == "stream.gap"
                if not fields.get("event", "stream.").startswith("stream."):
                    self.seen.append(json.loads(fields["data"])["id"])
                self.position = fields.get("id", self.position)
                fields = {}
                if self._is_over(deadline):
                    return

    def _watch_grpc(self, deadline: float) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{self._stack.grpc_port + 1}") as channel:
            request = pb.WatchEventsRequest(participant=self._participant, after_event_id=self.position)
            call = pb_grpc.ConversationServiceStub(channel).WatchEvents(request)
            self._cancel = call.cancel
            for response in call:
                self.gaps += response.HasField("gap")
                if response.HasField("event"):
                    self.seen.append(response.event.id)
                self.position = response.event_id
                if self._is_over(deadline):
                    return

    def _is_over(self, deadline: float) -> bool:
        return self._done.is_set() or time.monotonic() > deadline
