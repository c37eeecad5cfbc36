"""The dispatcher: claim, send, settle. PostgreSQL owns the work; the broker only says that there is some."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from services.dispatch.admission import Admission, Gate
from services.dispatch.company import Company
from services.dispatch.history import History, history_of
from services.dispatch.inquiry import Inquirer
from services.dispatch.lanes import RETRY_LANES, Lanes, Work
from services.dispatch.leases import Leases
from services.dispatch.order import Order, Part, join
from services.dispatch.ownership import Ownership
from services.dispatch.progress import Progress
from services.dispatch.publish import claim_announcement
from services.dispatch.refusing import Refuser
from services.dispatch.sender_rates import Turns
from services.dispatch.sending import Postman
from services.dispatch.settling import Settler
from services.dispatch.tracing import traced_batch
from services.dispatch.turn import Turn
from services.kit import metrics
from services.kit.bus import BUS_ERRORS
from services.kit.errors import UnavailableError
from services.kit.fault_points import FaultPoints
from services.kit.ids import new_id
from services.kit.logs import get_logger
from services.ledger.claims import ClaimedMessage, claim, keep, put_off
from services.ledger.database import Database
from services.ledger.mail_threads import MailThread, load_threads
from services.ledger.outcomes import Settlement
from services.ledger.relay import Relay
from services.ledger.tries import load_tries
from services.ledger.waiting import load_waiting

_log = get_logger(__name__)
_T = TypeVar("_T")

# Seconds between attempts to settle what was sent while the database is away.
_SETTLE_RETRY = 0.5
# Seconds that giving back may take once the grace is over.
_RELEASE_TIMEOUT = 1.0
# Slots, as a multiple of those that may send, among which some wait for earlier messages to leave: here, or
# at other dispatchers, which may have died and left their work to one of our slots.
_MOST_SLOTS = 2
_MOST_SLOTS_IN_COMPANY = 4


class Dispatcher:
    """Works on up to `concurrency` batches at the same time, and on as many that wait for those to leave."""

    def __init__(
        self,
        database: Database,
        relay: Relay,
        lanes: Lanes,
        ownership: Ownership,
        postman: Postman,
        settler: Settler,
        inquirer: Inquirer,
        refuser: Refuser,
        gate: Gate,
        company: Company,
        *,
        concurrency: int,
        lease: float,
        republish_after: float,
        faults: FaultPoints,
    ) -> None:
        self._database = database
        self._faults = faults
        self._relay = relay
        self._lanes = lanes
        self._ownership = ownership
        self._postman = postman
        self._settler = settler
        self._inquirer = inquirer
        self._refuser = refuser
        self._gate = gate
        self._company = company
        self._concurrency = concurrency
        self._lease = lease
        self._republish_after = republish_after
        self._leases = Leases(database, seconds=lease)
        self._slots: dict[asyncio.Task[None], bool] = {}
        self._taking = asyncio.Lock()
        self._order = Order()
        # Slots that wait for earlier messages to leave; others take work in their place.
        self._waiting = 0
        self._closing = False
        # Whether too little of the grace is left to begin anything.
        self._late = False

    def start(self) -> None:
        """Begin to work."""
        for _ in range(self._concurrency):
            self._add_slot()
        self._leases.start()

    async def close(self, grace: float) -> None:
        """Take no more work and finish what is under way within `grace` seconds.

        In the first half of them what was claimed may still begin to be sent; what is left then goes back. An
        attempt that is not finished in the end is left to its lease: another dispatcher finds it UNKNOWN and
        asks.
        """
        self._closing = True
        for slot, busy in tuple(self._slots.items()):
            if not busy:
                slot.cancel()
        if self._slots:
            _, late = await asyncio.wait(tuple(self._slots), timeout=grace / 2)
            self._late = True
            if late:
                _, late = await asyncio.wait(late, timeout=grace / 2)
            for slot in late:
                slot.cancel()
        self._leases.close()
        await asyncio.gather(*self._slots, return_exceptions=True)

    def _add_slot(self) -> None:
        self._slots[asyncio.create_task(self._run(), name=f"dispatch-{len(self._slots)}")] = False

    async def _run(self) -> None:
        slot = asyncio.current_task()
        assert slot is not None  # noqa: S101 - we are running in one
        while not self._closing:
            if len(self._slots) - self._waiting > self._concurrency:
                # It stood in for one that waited.
                del self._slots[slot]
                return
            async with Turn(self._taking) as turn:
                work = await self._lanes.take(mixed=lambda: self._gate.clear)
                self._slots[slot] = True
                try:
                    await self._work(work, turn)
                except UnavailableError:
                    # Not claimed, or claimed under a key whose lock we will lose: the outbox brings it back.
                    turn.end()
                    await asyncio.sleep(_SETTLE_RETRY)
                except Exception:  # noqa: BLE001 - one bad batch must not stop the slot
                    _log.exception("batch_failed", lane=work[0].lane, envelopes=len(work))
                finally:
                    self._slots[slot] = False

    async def _work(self, work: Sequence[Work], turn: Turn) -> None:
        owner = await self._ownership.wait_held()
        if work[0].lane == "inquiry":
            turn.end()
            await self._ack(work)
            outbox_ids = _outbox_ids(work)
            with self._leases.holding(outbox_ids, owner):
                await self._inquirer.ask(outbox_ids, owner=owner, lease=self._lease)
        elif work[0].lane not in RETRY_LANES and self._gate.clear:
            await self._dispatch(work, owner, turn=turn)
        else:
            channels = _by_channel(work)
            if len(channels) > 1 or work[0].lane in RETRY_LANES:
                turn.end()
            for channel, items in channels.items():
                await self._dispatch_some(channel, items, owner, turn)

    async def _dispatch_some(self, channel: str, work: Sequence[Work], owner: int, turn: Turn) -> None:
        """Dispatch as much of one channel's work as may be sent now, and put the rest off."""
        size = sum(len(item.envelope.message_ids) for item in work)
        with self._gate.admit(channel, size, retry=work[0].lane in RETRY_LANES) as admission:
            fitting: list[Work] = []
            room = admission.limit
            for item in work:
                if room > 0:
                    fitting.append(item)
                room -= len(item.envelope.message_ids)
            rest = work[len(fitting) :]
            if rest:
                fitting += await self._put_off(channel, rest, admission.reason)
            if fitting:
                await self._dispatch(fitting, owner, channel, admission, turn=turn)

    async def _put_off(self, channel: str, work: Sequence[Work], reason: str) -> list[Work]:
        """Put unclaimed envelopes off; return those that a dead dispatcher held, which cannot wait."""
        delays = {
            item.envelope.outbox_id: self._gate.delay(channel, len(item.envelope.message_ids), reason)
            for item in work
        }
        async with self._database.hot() as connection:
            abandoned = set(await put_off(connection, delays))
        # What waits here may wait for long: it is to expire all the same.
        await self._refuser.refuse(list(delays), owner=None)
        waiting = [item for item in work if item.envelope.outbox_id not in abandoned]
        metrics.DISPATCH_POSTPONED.labels(channel, reason).inc(len(waiting))
        await self._ack(waiting)
        return [item for item in work if item.envelope.outbox_id in abandoned]

    async def _dispatch(
        self,
        work: Sequence[Work],
        owner: int,
        channel: str = "",
        admission: Admission | None = None,
        *,
        turn: Turn,
    ) -> None:
        """Claim, send and settle; with an admission, the messages of one channel that it allows."""
        outbox_ids = _outbox_ids(work)
        with self._leases.holding(outbox_ids, owner):
            await self._dispatch_held(work, outbox_ids, owner, channel, admission, turn)

    async def _dispatch_held(
        self,
        work: Sequence[Work],
        outbox_ids: Sequence[str],
        owner: int,
        channel: str,
        admission: Admission | None,
        turn: Turn,
    ) -> None:
        size = sum(len(item.envelope.message_ids) for item in work)
        limit = None if admission is None or admission.limit >= size else admission.limit
        event_outbox_id = new_id()
        turns = await self._turns(outbox_ids, size if limit is None else limit)
        self._faults.reach("dispatch.before_claim")
        async with self._database.hot() as connection:
            claimed, taken = await claim(
                connection,
                outbox_ids,
                owner=owner,
                lease=self._lease,
                event_outbox_id=event_outbox_id,
                republish_after=self._republish_after,
                limit=limit,
                only=None if turns is None else turns.ids,
            )
        if turns is not None:
            self._gate.senders.return_unused(turns, [message.id for message in claimed])
        held = None if turns is None else turns.wait
        before: Mapping[str, set[str]] | None = None
        if self._company.present:
            before = await self._until_done(lambda: self._company.before(claimed))
        with self._order.enter(claimed, before) as parts:
            turn.end()
            if admission is not None:
                admission.claimed = len(claimed)
            self._faults.reach("dispatch.after_claim")
            # From here on the claim in PostgreSQL stands for the work; the broker has done its part.
            await self._ack(work)
            self._faults.reach("dispatch.after_ack")
            abandoned = [outbox_id for outbox_id, was_held in taken.items() if was_held]
            if abandoned:
                await self._inquirer.adopt(abandoned, owner=owner, own=[message.id for message in claimed])
            size = sum(len(item.envelope.message_ids) for item in work if item.envelope.outbox_id in taken)
            # Where a limit has held, the rest waits in its envelope, which is then put off and not closed.
            partly = held is not None or (limit is not None and len(claimed) >= limit)
            if len(claimed) < size and not partly:
                await self._until_done(lambda: self._refuser.refuse(list(taken), owner=owner))
            if claimed:
                self._relay.announce(claim_announcement(event_outbox_id, claimed))
                await self._until_done(lambda: self._refuser.note_overrides(claimed))
            async with traced_batch(self._database, work, claimed):
                all_sent = await self._send(parts, () if partly else list(taken), owner, admission)
            if partly and all_sent and admission is not None:
                reason = admission.reason if held is None else "sender"
                delay = self._gate.delay(channel, size - len(claimed), reason) if held is None else held
                metrics.DISPATCH_POSTPONED.labels(channel, reason).inc(len(taken))
                await self._until_done(lambda: self._keep(list(taken), claimed, owner, delay))
                if held is not None:
                    await self._refuser.refuse(list(taken), owner=None)

    async def _turns(self, outbox_ids: Sequence[str], limit: int) -> Turns | None:
        """Return which messages their senders' rates let go; None where there are no such rates."""
        if self._gate.senders.unlimited:
            return None
        async with self._database.hot() as connection:
            return self._gate.senders.choose(await load_waiting(connection, outbox_ids), limit)

    async def _keep(
        self, outbox_ids: Sequence[str], claimed: Sequence[ClaimedMessage], owner: int, delay: float
    ) -> None:
        done = [message.id for message in claimed]
        async with self._database.hot() as connection:
            await keep(connection, outbox_ids, without=done, owner=owner, delay=delay)

    async def _histories(self, claimed: Sequence[ClaimedMessage]) -> dict[str, History]:
        """Return what those messages have been through that are not in their first attempt."""
        numbers = {message.id: message.attempt for message in claimed if message.attempt > 1}
        if not numbers:
            return {}
        async with self._database.hot() as connection:
            tries = await load_tries(connection, list(numbers))
        return {
            message_id: history_of(tries.get(message_id, ()), before=number)
            for message_id, number in numbers.items()
        }

    async def _threads(self, claimed: Sequence[ClaimedMessage]) -> dict[str, MailThread]:
        """Return what e-mails answer; other channels know no such thing."""
        mails = {message.id: message.conversation_id for message in claimed if message.channel == "email"}
        if not mails:
            return {}
        async with self._database.hot() as connection:
            return await load_threads(connection, mails)

    async def _send(
        self,
        parts: Sequence[Part],
        outbox_ids: Sequence[str],
        owner: int,
        admission: Admission | None,
    ) -> bool:
        """Send what was claimed and settle it batch by batch; envelopes close with the last one.

        Once our lock is lost, others take over what is not sent yet, so we must not send it: false then.
        """
        claimed = [message for part in parts for message in part.messages]
        progress = Progress(claimed)
        try:
            return await self._send_parts(parts, progress, outbox_ids, owner, admission)
        except asyncio.CancelledError:
            if self._late:
                await self._release(progress, outbox_ids, owner)
            raise

    def _may_send(self, owner: int) -> bool:
        return not self._late and self._ownership.holds(owner)

    async def _release(self, progress: Progress, outbox_ids: Sequence[str], owner: int) -> None:
        """Give back what no provider has been given: nobody needs to ask what became of it."""
        left = progress.untouched()
        if not left or not self._ownership.holds(owner):
            return
        whole = len(left) == progress.open_count
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_RELEASE_TIMEOUT):
                await self._settle(left, self._postman.release(left), outbox_ids if whole else (), owner)

    async def _send_parts(
        self,
        parts: Sequence[Part],
        progress: Progress,
        outbox_ids: Sequence[str],
        owner: int,
        admission: Admission | None,
    ) -> bool:
        claimed = progress.claimed
        histories: dict[str, History] = {}
        threads: dict[str, MailThread] = {}

        async def look_back() -> None:
            histories.update(await self._histories(claimed))
            threads.update(await self._threads(claimed))

        await self._until_done(look_back)
        self._faults.reach("dispatch.before_send")
        waiting = list(parts)
        while waiting:
            part, waited = await self._next(waiting)
            left = len(part.messages)
            if waited and not self._gate.still_allows(part.messages[0].channel, admission):
                # What has left before it failed: it would fail too, at the cost of an attempt.
                withheld = self._postman.withhold(part.messages)
                progress.settle(withheld)
                self._order.leave(part)
                open_ids = () if progress.open_count else outbox_ids
                await self._settle(part.messages, withheld, open_ids, owner)
                continue
            async for messages, settlements in self._postman.send(
                part.messages,
                may_send=lambda chunk: self._may_send(owner) and progress.begin(chunk),
                histories=histories,
                threads=threads,
                admission=admission,
            ):
                left -= len(settlements)
                progress.settle(settlements)
                if not left:
                    self._order.leave(part)
                self._faults.reach("dispatch.after_send")
                open_ids = () if progress.open_count else outbox_ids
                await self._settle(messages, settlements, open_ids, owner)
                self._faults.reach("dispatch.after_settle")
        if not claimed:
            await self._settle((), (), outbox_ids, owner)
        elif progress.open_count and self._late:
            await self._release(progress, outbox_ids, owner)
        elif progress.open_count:
            _log.warning("claim_abandoned", messages=progress.open_count)
        return not progress.open_count

    async def _next(self, parts: list[Part]) -> tuple[Part, bool]:
        """Take out what may leave next, once what was accepted before it has left.

        Another slot works meanwhile. Returns whether there was anything to wait for.
        """
        if not parts[0].must_wait:
            return parts.pop(0), False
        self._waiting += 1
        most = _MOST_SLOTS_IN_COMPANY if parts[0].elsewhere else _MOST_SLOTS
        if not self._closing and len(self._slots) < most * self._concurrency:
            self._add_slot()
        try:
            if parts[0].elsewhere:
                return join(await self._company.next(parts)), True
            await parts[0].wait()
        finally:
            self._waiting -= 1
        return parts.pop(0), True

    async def _settle(
        self,
        messages: Sequence[ClaimedMessage],
        settlements: Sequence[Settlement],
        outbox_ids: Sequence[str],
        owner: int,
    ) -> None:
        """Settle, however long the database stays away: what was sent must not be forgotten."""
        await self._until_done(
            lambda: self._settler.settle(messages, settlements, settled_outbox_ids=outbox_ids, owner=owner)
        )

    async def _until_done(self, act: Callable[[], Awaitable[_T]]) -> _T:
        while True:
            try:
                return await act()
            except UnavailableError:
                await asyncio.sleep(_SETTLE_RETRY)

    async def _ack(self, work: Sequence[Work]) -> None:
        for item in work:
            try:
                await item.message.ack()
            except BUS_ERRORS:
                # It will be delivered again, and found to be claimed.
                return


def _outbox_ids(work: Sequence[Work]) -> list[str]:
    return list(dict.fromkeys(item.envelope.outbox_id for item in work))


def _by_channel(work: Sequence[Work]) -> dict[str, list[Work]]:
    """Return envelopes by channel, which their subjects name."""
    channels: dict[str, list[Work]] = {}
    for item in work:
        channels.setdefault(item.message.subject.split(".")[2], []).append(item)
    return channels
