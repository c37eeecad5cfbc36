"""Posts events to endpoints of customers, as often as it takes, within bounds. Processes share the work."""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from posthouse.v1 import event_pb2 as event_pb
from services.conversation import event_deliveries
from services.conversation.cloud_events import CONTENT_TYPE, cloud_event, webhook_id
from services.conversation.delivery_lanes import Lane, Waiting
from services.conversation.delivery_settling import DeliverySettler
from services.conversation.event_deliveries import Claimed, Tried
from services.conversation.webhook_signature import signed_headers
from services.kit import metrics
from services.kit.cancelling import cancel_all
from services.kit.errors import UnavailableError
from services.kit.guarded_http import Answer, GuardedClient
from services.kit.logs import get_logger
from services.ledger.database import Database
from services.ledger.event_batches import load_events
from services.providers.retry_after import read_retry_after

_log = get_logger(__name__)

_POLL: Final = 1.0
# Deliveries that a process has claimed at most, for all endpoints together.
_MOST: Final = 512
# What comes in so short a time is claimed together.
_GATHER: Final = 0.005
# Seconds that requests under way get when the process stops; what they do not reach comes again.
_GRACE: Final = 2.0
_AGENT: Final = "Posthouse"
_NOT_FOUND: Final = "event_not_found"

# Hears the id of a subscription that was disabled, and why.
Disabled = Callable[[str, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """When to try again and when to give up. Times are in seconds."""

    timeout: float = 15.0
    # Requests under way to one endpoint, in one process.
    concurrency: int = 16
    attempts: int = 12
    # Each backoff is four times the one before, with jitter.
    retry_base: float = 5.0
    retry_max: float = 21_600.0
    # Without a single success for so long, a subscription is disabled.
    disable_after: float = 432_000.0

    @property
    def lease(self) -> float:
        """Return how long a claim holds: longer than an attempt and its settlement take."""
        return self.patience + self.timeout + 5.0

    @property
    def patience(self) -> float:
        """Return how long a claimed delivery may wait in line."""
        return self.timeout

    def after(self, failures: int, retry_after: float | None) -> float | None:
        """Return the delay after so many failures, the last among them; None: no more attempts."""
        if failures >= self.attempts:
            return None
        ceiling = min(self.retry_max, self.retry_base * 4.0 ** min(failures - 1, 30))
        delay = random.uniform(0.75 * ceiling, ceiling)  # noqa: S311 - jitter
        return max(delay, min(retry_after or 0.0, self.retry_max))


class DeliveryWorker:
    """Claims deliveries that are due, posts them, and settles them. `disabled` hears what that disables."""

    def __init__(
        self,
        database: Database,
        client: GuardedClient,
        policy: DeliveryPolicy,
        *,
        source: str,
        disabled: Disabled,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._client = client
        self._policy = policy
        self._source = source
        self._disabled = disabled
        self._clock = clock
        self._wake = asyncio.Event()
        self._settler = DeliverySettler(database)
        self._flights: set[asyncio.Task[None]] = set()
        self._lanes: dict[str, Lane] = {}

    def wake(self) -> None:
        """Look for what is due: there is something new."""
        self._wake.set()

    async def run(self) -> None:
        """Deliver for ever; cancel to stop, and close."""
        while True:
            self._wake.clear()
            await self._step()
            try:
                async with asyncio.timeout(_POLL):
                    await self._wake.wait()
                    await asyncio.sleep(_GATHER)
            except TimeoutError:
                self._lanes = {key: lane for key, lane in self._lanes.items() if lane.held}

    async def close(self) -> None:
        """Give what is under way a moment; what it does not reach comes again when its lease has ended."""
        left = [waiting.claimed for lane in self._lanes.values() for waiting in lane.clear()]
        if left:
            with contextlib.suppress(UnavailableError):
                async with self._database.hot() as connection:
                    await event_deliveries.give_back(connection, left)
        if self._flights:
            await asyncio.wait(self._flights, timeout=_GRACE)
        await cancel_all(self._flights)
        await self._settler.close()

    async def _step(self) -> None:
        """Begin what is due."""
        with contextlib.suppress(UnavailableError):
            claimed = await self._claim()
            if claimed:
                await self._line_up(claimed)

    async def _claim(self) -> list[Claimed]:
        policy, room = self._policy, _MOST - sum(lane.held for lane in self._lanes.values())
        if room <= 0:
            return []
        # One more share than there are busy endpoints is for those that have been quiet.
        even = _MOST // (1 + sum(lane.busy for lane in self._lanes.values()))
        for lane in self._lanes.values():
            lane.most = even
        shares = {key: lane.share for key, lane in self._lanes.items()}
        async with self._database.hot() as connection:
            claimed = await event_deliveries.claim(
                connection, shares=shares, most=policy.concurrency, room=room, lease=policy.lease
            )
        found: dict[str, list[Claimed]] = {key: [] for key in shares}
        for each in claimed:
            found.setdefault(each.subscription_id, []).append(each)
        for key, same in found.items():
            lane = self._lanes.setdefault(key, Lane(policy.concurrency))
            if same:
                # Who had a turn is the last to have the next.
                self._lanes[key] = self._lanes.pop(key)
            if lane.claimed(shares.get(key, lane.share), same, cut=len(claimed) >= room):
                self._wake.set()
        return claimed

    async def _line_up(self, claimed: Sequence[Claimed]) -> None:
        until = asyncio.get_running_loop().time() + self._policy.patience
        wanted = list(dict.fromkeys((each.message_id, each.sequence) for each in claimed))
        async with self._database.read_primary() as connection:
            events = await load_events(connection, wanted)
        for each in claimed:
            lane = self._lanes[each.subscription_id]
            lane.add(Waiting(each, events.get((each.message_id, each.sequence)), until))
        for key in {each.subscription_id for each in claimed}:
            self._begin(self._lanes[key])

    def _begin(self, lane: Lane) -> None:
        """Post what is next in line, as far as there is room."""
        for waiting in lane.take(asyncio.get_running_loop().time()):
            flight = asyncio.create_task(self._fly(lane, waiting.claimed, waiting.event))
            self._flights.add(flight)
            flight.add_done_callback(self._flights.discard)

    async def _fly(self, lane: Lane, claimed: Claimed, event: event_pb.Event | None) -> None:
        sent, answer = self._clock(), None
        try:
            answer = await self._post(claimed, event)
            lane.answered(answer.seconds)
        except Exception:  # noqa: BLE001 - the lease ends, and the event is posted again
            _log.exception("event_delivery_failed", subscription_id=claimed.subscription_id)
        finally:
            lane.under_way -= 1
        self._begin(lane)
        try:
            if answer is not None:
                await self._settle(lane, claimed, answer, sent)
        except UnavailableError:
            pass  # the same, under the same webhook-id
        except Exception:  # noqa: BLE001 - the same
            _log.exception("event_delivery_failed", subscription_id=claimed.subscription_id)
        lane.held -= 1
        if lane.low:
            self._wake.set()

    async def _post(self, claimed: Claimed, event: event_pb.Event | None) -> Answer:
        if event is None:
            return Answer(0, 0.0, _NOT_FOUND)
        body = cloud_event(event, self._source)
        keys = [claimed.secret, *([claimed.old_secret] if claimed.old_secret else [])]
        name = webhook_id(claimed.message_id, claimed.sequence)
        headers = signed_headers(keys, name, int(self._clock()), body)
        answer = await self._client.post(
            claimed.url, body, {**headers, "Content-Type": CONTENT_TYPE, "User-Agent": _AGENT}
        )
        metrics.EVENT_DELIVERY_SECONDS.observe(answer.seconds)
        return answer

    async def _settle(self, lane: Lane, claimed: Claimed, answer: Answer, sent: float) -> None:
        if not answer.taken:
            if await self._note_failure(claimed, answer, again=answer.error != _NOT_FOUND):
                lane.clear()
            return
        await self._settler.settle(claimed, _tried(answer))
        metrics.EVENT_DELIVERIES.labels("delivered").inc()
        if not claimed.attempt_count:
            metrics.EVENT_DELIVERY_LAG.observe(max(0.0, sent - claimed.event_time.timestamp()))

    async def _note_failure(self, claimed: Claimed, answer: Answer, *, again: bool) -> bool:
        """Settle a failure, and tell whether it has disabled the subscription."""
        failures = claimed.attempt_count + 1
        again_after = self._policy.after(failures, read_retry_after(answer.retry_after)) if again else None
        async with self._database.hot() as connection:
            disabled = await event_deliveries.settle_failed(
                connection,
                claimed,
                _tried(answer),
                again_after=again_after,
                gone=answer.status == HTTPStatus.GONE,
                disable_after=self._policy.disable_after,
            )
        metrics.EVENT_DELIVERIES.labels("failed" if again_after is None else "retried").inc()
        if again_after is None:
            _log.warning(
                "event_delivery_given_up",
                subscription_id=claimed.subscription_id,
                delivery_id=claimed.id,
                attempts=failures,
                status=answer.status,
            )
        if disabled:
            await self._disabled(claimed.subscription_id, disabled)
        return bool(disabled)


def _tried(answer: Answer) -> Tried:
    error = answer.error
    if error is None and not answer.taken:
        error = "redirected" if answer.status < HTTPStatus.BAD_REQUEST else "refused"
    return Tried(answer.status, error, round(answer.seconds * 1000))
