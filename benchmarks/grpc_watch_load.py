"""Watchers over gRPC: idle streams of one conversation process, some of which see everything.

`python -m benchmarks.grpc_watch_load HOST PORT IDLE EAGER` prints the same lines as `benchmarks.watch_load`.
Every stream has a connection of its own, as those of different clients have.
"""

import asyncio
import json
import sys
import time
import uuid

import grpc

from posthouse.v1 import conversation_service_pb2 as pb
from posthouse.v1 import conversation_service_pb2_grpc as pb_grpc

_CONNECTING = 100
_OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]
_WANTED = "accepted"


class _Watchers:
    """All streams; `ready` once each has had a response, `heard` once the eager ones have the event."""

    def __init__(self, target: str, idle: int, eager: int) -> None:
        self.ready, self.heard = asyncio.Event(), asyncio.Event()
        self._target = target
        self._room = asyncio.Semaphore(_CONNECTING)
        self._connecting, self._waiting = idle + eager, eager

    async def watch(self, *, eager: bool) -> None:
        """Watch for ever."""
        async with grpc.aio.insecure_channel(self._target, options=_OWN_CONNECTION) as channel:
            request = pb.WatchEventsRequest(conversation_id="" if eager else str(uuid.uuid4()))
            async with self._room:
                call = pb_grpc.ConversationServiceStub(channel).WatchEvents(request)
                await call.read()
            self._connecting -= 1
            if not self._connecting:
                self.ready.set()
            while isinstance(response := await call.read(), pb.WatchEventsResponse):
                if eager and response.event.type == _WANTED:
                    eager = False
                    self._waiting -= 1
                    if not self._waiting:
                        self.heard.set()
        raise SystemExit("a stream has ended")


async def main(host: str, port: int, idle: int, eager: int) -> None:
    """Connect, report, wait for the event, report."""
    began = time.time()
    watchers = _Watchers(f"{host}:{port}", idle, eager)
    tasks = [asyncio.create_task(watchers.watch(eager=number < eager)) for number in range(idle + eager)]
    await watchers.ready.wait()
    print(json.dumps({"connected": len(tasks), "seconds": time.time() - began}), flush=True)
    await watchers.heard.wait()
    print(json.dumps({"heard": eager, "time": time.time()}), flush=True)
    await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *(int(argument) for argument in sys.argv[2:])))
