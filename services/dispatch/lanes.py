"""The lanes of the DISPATCH stream: fetches envelopes ahead and hands them out fairly, in batches."""

import asyncio
import contextlib
import functools
import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from posthouse.v1 import event_pb2 as event_pb
from services.kit.background import in_background
from services.kit.bus import BUS_ERRORS, Bus
from services.kit.cancelling import cancel_all
from services.kit.logs import get_logger
from services.kit.pulling import pull

_log = get_logger(__name__)

# Durable consumer and subjects of each lane. A work queue allows no two consumers of one subject.
LANES: Final[dict[str, str]] = {
    "high": "posthouse.dispatch.*.high",
    "retry_high": "posthouse.dispatch.*.retry_high",
    "normal": "posthouse.dispatch.*",
    "low": "posthouse.dispatch.*.low",
    "retry": "posthouse.dispatch.*.retry",
    "inquiry": "posthouse.dispatch.*.inquiry",
}

# Order in which a free slot looks for work, one turn after the other: high goes before normal before
# low, and yet every lane comes first once in a round.
_TURNS: Final = (
    ("high", "retry_high", "normal", "retry", "low", "inquiry"),
    ("normal", "high", "retry_high", "retry", "low", "inquiry"),
    ("high", "retry_high", "normal", "inquiry", "low", "retry"),
    ("retry", "high", "retry_high", "normal", "low", "inquiry"),
    ("high", "retry_high", "normal", "low", "retry", "inquiry"),
    ("retry_high", "high", "normal", "retry", "inquiry", "low"),
    ("normal", "high", "retry_high", "retry", "inquiry", "low"),
    ("low", "high", "retry_high", "normal", "retry", "inquiry"),
    ("inquiry", "high", "retry_high", "normal", "retry", "low"),
)

# Those whose messages had an attempt before: the retry budget holds for them.
RETRY_LANES: Final = frozenset({"retry", "retry_high"})

# One bad id would fail the claim of all that it is claimed with.
_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_ACK_WAIT = 30.0

# Where that is kept which is on our subjects and no envelope.
_UNREADABLE: Final = "posthouse.deadletter.unreadable"

# Seconds between two takes of work that is neither urgent nor a full batch: what comes in meanwhile is worked
# on together. Whoever comes after a pause waits for nothing.
_GATHER: Final = 0.04
# Lanes that wait for no company, and whose messages go before others of their sender.
URGENT_LANES: Final = frozenset({"high", "retry_high"})


@dataclass(frozen=True, slots=True)
class Work:
    """One envelope as it came from the broker."""

    lane: str
    envelope: event_pb.DispatchEnvelope
    message: Msg

    @property
    def size(self) -> int:
        """How many messages it has."""
        return len(self.envelope.message_ids)


def size_of(work: Iterable[Work]) -> int:
    """Return how many messages envelopes have."""
    return sum(item.size for item in work)


def outbox_ids_of(work: Sequence[Work]) -> list[str]:
    """Return the outbox rows of envelopes, each once."""
    return list(dict.fromkeys(item.envelope.outbox_id for item in work))


async def ack(work: Sequence[Work]) -> None:
    """Tell the broker that envelopes need not come again."""
    for item in work:
        try:
            await item.message.ack()
        except BUS_ERRORS:
            # It will be delivered again, and found to be claimed.
            return


class Lanes:
    """Envelopes that wait in this process, by lane. At most about two batches of each are fetched ahead."""

    def __init__(self, bus: Bus, *, batch_size: int) -> None:
        self._bus = bus
        self._batch_size = batch_size
        self._waiting: dict[str, deque[Work]] = {lane: deque() for lane in LANES}
        self._sizes: dict[str, int] = dict.fromkeys(LANES, 0)
        self._filled = asyncio.Event()
        self._room: dict[str, asyncio.Event] = {lane: asyncio.Event() for lane in LANES}
        self._turn = 0
        # When work was last taken, on the loop's clock, and whether the next has a reason not to wait.
        self._taken_at = -_GATHER
        self._hurry = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to fetch."""
        self._tasks = [in_background(f"lane-{lane}", functools.partial(self._fetch, lane)) for lane in LANES]

    async def close(self) -> None:
        """Stop fetching; what waits here is delivered to others, or to a later run."""
        await cancel_all(self._tasks)
        for queue in self._waiting.values():
            while queue:
                with contextlib.suppress(*BUS_ERRORS):
                    await queue.popleft().message.nak()

    async def take(self, *, mixed: Callable[[], bool] = lambda: True) -> list[Work]:
        """Wait for work and return envelopes of one lane, up to a batch of messages.

        They are of one channel where `mixed` says no by then.
        """
        while True:
            while not any(self._waiting.values()):
                self._filled.clear()
                await self._filled.wait()
            await self._gather()
            self._turn = (self._turn + 1) % len(_TURNS)
            for lane in _TURNS[self._turn]:
                if self._waiting[lane]:
                    return self._take_from(lane, mixed=mixed())

    async def _gather(self) -> None:
        """Wait for company, unless work was last taken long ago or what waits is urgent."""
        left = self._taken_at + _GATHER - asyncio.get_running_loop().time()
        if left <= 0 or self._must_hurry():
            return
        self._hurry.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left):
                await self._hurry.wait()

    def _must_hurry(self) -> bool:
        return (
            any(self._waiting[lane] for lane in URGENT_LANES) or max(self._sizes.values()) >= self._batch_size
        )

    def _take_from(self, lane: str, *, mixed: bool) -> list[Work]:
        self._taken_at = asyncio.get_running_loop().time()
        queue = self._waiting[lane]
        taken = [queue.popleft()]
        size = taken[0].size
        while queue and size + queue[0].size <= self._batch_size:
            if not mixed and queue[0].message.subject != taken[0].message.subject:
                break
            taken.append(queue.popleft())
            size += taken[-1].size
        self._sizes[lane] -= size
        self._room[lane].set()
        return taken

    async def _fetch(self, lane: str) -> None:
        while True:
            await self._bus.wait_ready()
            try:
                await pull(
                    self._bus,
                    stream="DISPATCH",
                    consumer=_consumer(lane),
                    take=lambda message: self._receive(lane, message),
                    room=lambda: self._await_room(lane),
                )
            except BUS_ERRORS as error:
                _log.debug("fetch_failed", lane=lane, error=repr(error))
                await asyncio.sleep(0.2)

    async def _await_room(self, lane: str) -> None:
        while self._sizes[lane] >= 2 * self._batch_size:
            self._room[lane].clear()
            await self._room[lane].wait()

    async def _receive(self, lane: str, message: Msg) -> None:
        envelope = _read(message.data)
        if envelope is not None:
            self._put(lane, envelope, message)
            return
        # Nothing of ours: the outbox row, if there is one, will be published again. What cannot be put away
        # now comes again.
        with contextlib.suppress(*BUS_ERRORS):
            place = f"{message.metadata.timestamp.isoformat()}-{message.metadata.sequence.stream}"
            headers = {"Content-Type": "application/octet-stream", "Posthouse-Subject": message.subject}
            await self._bus.publish(_UNREADABLE, message.data, message_id=place, headers=headers)
            _log.error("envelope_unreadable", subject=message.subject, size=len(message.data))
            await message.term()

    def _put(self, lane: str, envelope: event_pb.DispatchEnvelope, message: Msg) -> None:
        self._waiting[lane].append(Work(lane, envelope, message))
        self._sizes[lane] += len(envelope.message_ids)
        self._filled.set()
        if lane in URGENT_LANES or self._sizes[lane] >= self._batch_size:
            self._hurry.set()


def _consumer(lane: str) -> ConsumerConfig:
    return ConsumerConfig(
        durable_name=f"dispatch-{lane}",
        filter_subject=LANES[lane],
        ack_policy=AckPolicy.EXPLICIT,
        deliver_policy=DeliverPolicy.ALL,
        ack_wait=_ACK_WAIT,
        max_ack_pending=10_000,
    )


def _read(payload: bytes) -> event_pb.DispatchEnvelope | None:
    """Return the envelope in a payload; None when it is none, or names no outbox row."""
    envelope = event_pb.DispatchEnvelope()
    try:
        envelope.ParseFromString(payload)
    except DecodeError:
        return None
    return envelope if _UUID.fullmatch(envelope.outbox_id) else None
