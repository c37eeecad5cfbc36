"""The dispatcher: takes work as the broker tells of it, and has as much of it done as may be sent now."""

import asyncio
from collections.abc import Sequence

from services.dispatch.batch import Batch, Means
from services.dispatch.lanes import RETRY_LANES, Lanes, Work, ack, outbox_ids_of, size_of
from services.dispatch.slots import Slots
from services.dispatch.turn import Turn
from services.kit import metrics
from services.kit.errors import UnavailableError
from services.kit.logs import get_logger
from services.ledger.claims import put_off

_log = get_logger(__name__)

# Seconds after work that could not be claimed.
_CLAIM_RETRY = 0.5


class Dispatcher:
    """Works on up to `concurrency` batches at the same time, and on as many that wait for those to leave."""

    def __init__(self, means: Means, lanes: Lanes, *, concurrency: int) -> None:
        self._means = means
        self._lanes = lanes
        self._slots = Slots(self._take, concurrency)
        self._taking = asyncio.Lock()

    def start(self) -> None:
        """Begin to work."""
        self._slots.start()
        self._means.leases.start()

    async def close(self, grace: float) -> None:
        """Take no more work and finish what is under way within `grace` seconds.

        In the first half of them what was claimed may still begin to be sent; what is left then goes back. An
        attempt that is not finished in the end is left to its lease: another dispatcher finds it UNKNOWN and
        asks.
        """
        try:
            await self._slots.close(grace)
        finally:
            self._means.leases.close()

    async def _take(self) -> None:
        """Take work and do it."""
        async with Turn(self._taking) as turn:
            work = await self._lanes.take(mixed=lambda: self._means.gate.clear)
            with self._slots.busy():
                try:
                    await self._work(work, turn)
                except UnavailableError:
                    # Not claimed, or claimed under a key whose lock we will lose: the outbox brings it back.
                    turn.end()
                    await asyncio.sleep(_CLAIM_RETRY)
                except Exception:  # noqa: BLE001 - one bad batch must not stop the slot
                    _log.exception("batch_failed", lane=work[0].lane, envelopes=len(work))

    async def _work(self, work: Sequence[Work], turn: Turn) -> None:
        means = self._means
        owner = await means.ownership.wait_held()
        if work[0].lane == "inquiry":
            turn.end()
            await ack(work)
            outbox_ids = outbox_ids_of(work)
            with means.leases.holding(outbox_ids, owner):
                await means.inquirer.ask(outbox_ids, owner=owner, lease=means.lease)
        elif work[0].lane not in RETRY_LANES and means.gate.clear:
            await Batch(means, self._slots, work, owner).run(turn)
        else:
            channels = _by_channel(work)
            if len(channels) > 1 or work[0].lane in RETRY_LANES:
                turn.end()
            for channel, items in channels.items():
                await self._work_some(channel, items, owner, turn)

    async def _work_some(self, channel: str, work: Sequence[Work], owner: int, turn: Turn) -> None:
        """Do as much of one channel's work as may be sent now, and put the rest off."""
        with self._means.gate.admit(channel, size_of(work), retry=work[0].lane in RETRY_LANES) as admission:
            fitting: list[Work] = []
            room = admission.limit
            for item in work:
                if room > 0:
                    fitting.append(item)
                room -= item.size
            rest = work[len(fitting) :]
            if rest:
                fitting += await self._put_off(channel, rest, admission.reason)
            if fitting:
                await Batch(self._means, self._slots, fitting, owner, channel, admission).run(turn)

    async def _put_off(self, channel: str, work: Sequence[Work], reason: str) -> list[Work]:
        """Put unclaimed envelopes off; return those that a dead dispatcher held, which cannot wait."""
        means = self._means
        delays = {item.envelope.outbox_id: means.gate.delay(channel, item.size, reason) for item in work}
        async with means.database.hot() as connection:
            abandoned = set(await put_off(connection, delays))
        # What waits here may wait for long: it is to expire all the same.
        await means.refuser.refuse(list(delays), owner=None)
        waiting = [item for item in work if item.envelope.outbox_id not in abandoned]
        metrics.DISPATCH_POSTPONED.labels(channel, reason).inc(len(waiting))
        await ack(waiting)
        return [item for item in work if item.envelope.outbox_id in abandoned]


def _by_channel(work: Sequence[Work]) -> dict[str, list[Work]]:
    """Return envelopes by channel, which their subjects name."""
    channels: dict[str, list[Work]] = {}
    for item in work:
        channels.setdefault(item.message.subject.split(".")[2], []).append(item)
    return channels
