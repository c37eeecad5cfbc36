"""What becomes of work that was taken: claim, send, settle. PostgreSQL owns it, whatever the broker says."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from services.dispatch.admission import Admission, Gate
from services.dispatch.company import Company
from services.dispatch.history import History, history_of
from services.dispatch.inquiry import Inquirer
from services.dispatch.lanes import URGENT_LANES, Work, ack, outbox_ids_of, size_of
from services.dispatch.leases import Lease, Leases, lease_time
from services.dispatch.order import Order, Part, join
from services.dispatch.ownership import Ownership
from services.dispatch.progress import Progress
from services.dispatch.publish import claim_announcement
from services.dispatch.refusing import Refuser
from services.dispatch.sender_rates import Turns
from services.dispatch.sending import Postman
from services.dispatch.settling import Settler
from services.dispatch.slots import Slots
from services.dispatch.tracing import traced_batch
from services.dispatch.turn import Turn
from services.kit import metrics
from services.kit.errors import UnavailableError
from services.kit.fault_points import FaultPoints
from services.kit.ids import new_id
from services.kit.logs import get_logger
from services.ledger.claims import ClaimedMessage, claim, keep
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


@dataclass(frozen=True, slots=True)
class Means:
    """What the batches of a dispatcher are worked on with. Times are in seconds."""

    database: Database
    relay: Relay
    ownership: Ownership
    leases: Leases
    postman: Postman
    settler: Settler
    inquirer: Inquirer
    refuser: Refuser
    gate: Gate
    company: Company
    faults: FaultPoints
    lease: float
    republish_after: float
    order: Order = field(default_factory=Order)


class Batch:
    """Envelopes that are worked on together; with an admission, as many of one channel as it allows."""

    def __init__(
        self,
        means: Means,
        slots: Slots,
        work: Sequence[Work],
        owner: int,
        channel: str = "",
        admission: Admission | None = None,
    ) -> None:
        self._means = means
        self._slots = slots
        self._work = work
        self._owner = owner
        self._channel = channel
        self._admission = admission
        self._outbox_ids = outbox_ids_of(work)
        self._lease = Lease((), owner)
        size = size_of(work)
        self._limit = None if admission is None or admission.limit >= size else admission.limit

    async def run(self, turn: Turn) -> None:
        """Claim, send and settle; the turn to take work ends with the claim."""
        with self._means.leases.holding(self._outbox_ids, self._owner) as self._lease:
            await self._run(turn)

    async def _run(self, turn: Turn) -> None:
        means = self._means
        event_outbox_id = new_id()
        turns = await self._turns()
        means.faults.reach("dispatch.before_claim")
        claimed, taken = await self._claim(event_outbox_id, turns)
        before: Mapping[str, set[str]] | None = None
        if means.company.present:
            before = await _until_done(lambda: means.company.before(claimed))
        with means.order.enter(claimed, before) as parts:
            turn.end()
            if self._admission is not None:
                self._admission.claimed = len(claimed)
            means.faults.reach("dispatch.after_claim")
            # From here on the claim in PostgreSQL stands for the work; the broker has done its part.
            await ack(self._work)
            means.faults.reach("dispatch.after_ack")
            own = [message.id for message in claimed]
            abandoned = [outbox_id for outbox_id, was_held in taken.items() if was_held]
            if abandoned:
                await _until_done(
                    lambda: means.inquirer.adopt(abandoned, owner=self._owner, own=own, lease=means.lease)
                )
            size = size_of([item for item in self._work if item.envelope.outbox_id in taken])
            # Where a limit has held, the rest waits in its envelope, which is then put off and not closed.
            held = turns if turns is not None and turns.keep else None
            partly = held is not None or (self._limit is not None and len(claimed) >= self._limit)
            if len(claimed) < size and not partly:
                await _until_done(lambda: means.refuser.refuse(list(taken), owner=self._owner))
            if claimed:
                means.relay.announce(claim_announcement(event_outbox_id, claimed))
                await _until_done(lambda: means.refuser.note_overrides(claimed))
            async with traced_batch(means.database, self._work, claimed):
                all_sent = await self._send(parts, () if partly else list(taken))
            if partly and all_sent:
                await self._keep(list(taken), own, size - len(claimed), held)

    async def _turns(self) -> Turns | None:
        """Return which messages their senders' rates let go; None where there are no such rates."""
        senders = self._means.gate.senders
        if senders.unlimited:
            return None
        most = size_of(self._work) if self._limit is None else self._limit
        async with self._means.database.hot() as connection:
            waiting = await load_waiting(connection, self._outbox_ids)
        return senders.choose(waiting, most, urgent=self._work[0].lane in URGENT_LANES)

    async def _claim(
        self, event_outbox_id: str, turns: Turns | None
    ) -> tuple[list[ClaimedMessage], dict[str, bool]]:
        claimed: list[ClaimedMessage] = []
        ends_at = lease_time() + self._means.lease
        try:
            async with self._means.database.hot() as connection:
                claimed, taken = await claim(
                    connection,
                    self._outbox_ids,
                    owner=self._owner,
                    lease=self._means.lease,
                    event_outbox_id=event_outbox_id,
                    republish_after=self._means.republish_after,
                    limit=self._limit,
                    only=None if turns is None else turns.ids,
                )
        finally:
            # Of a claim that fails nothing is sent.
            if turns is not None:
                self._means.gate.senders.return_unused(turns, [message.id for message in claimed])
        self._lease.begin(taken, ends_at=ends_at)
        return claimed, taken

    async def _keep(
        self, outbox_ids: Sequence[str], done: Sequence[str], left: int, held: Turns | None
    ) -> None:
        """Put off what a limit has left in its envelopes; `held` where it is the rates of senders."""
        if self._admission is None:
            return
        gate = self._means.gate
        reason = self._admission.reason if held is None else "sender"
        if held is None:
            delay = gate.delay(self._channel, left, reason)
        else:
            delay = gate.senders.delay(held)
            if held.cut:
                # Who has only met the limit does not wait for the rates of others.
                delay = min(delay, gate.delay(self._channel, left, self._admission.reason))

        async def put_off() -> None:
            async with self._means.database.hot() as connection:
                await keep(connection, outbox_ids, without=done, owner=self._owner, delay=delay)

        metrics.DISPATCH_POSTPONED.labels(self._channel, reason).inc(len(outbox_ids))
        await _until_done(put_off)
        if held is not None:
            await self._means.refuser.refuse(outbox_ids, owner=None)

    async def _send(self, parts: Sequence[Part], outbox_ids: Sequence[str]) -> bool:
        """Send what was claimed and settle it part by part; envelopes close with the last one.

        Once our lock is lost, or our lease has ended, others take over what is not sent yet, so we must not
        send it: false then.
        """
        progress = Progress([message for part in parts for message in part.messages])
        try:
            await self._send_parts(parts, progress, outbox_ids)
        except asyncio.CancelledError:
            if self._slots.late:
                await self._release(progress, outbox_ids)
            raise
        if progress.open_count and self._slots.late:
            await self._release(progress, outbox_ids)
        elif progress.open_count:
            _log.warning("claim_abandoned", messages=progress.open_count)
        return not progress.open_count

    async def _send_parts(self, parts: Sequence[Part], progress: Progress, outbox_ids: Sequence[str]) -> None:
        means = self._means
        histories, threads = await _until_done(lambda: self._look_back(progress.claimed))
        means.faults.reach("dispatch.before_send")
        waiting = list(parts)
        while waiting:
            part, waited = await self._next(waiting)
            await self._confirm()
            fit, barred = self._sort_out(part.messages) if waited else (part.messages, ())
            left = len(fit)
            if not left:
                means.order.leave(part)
            if barred:
                await self._conclude(progress, barred, means.postman.withhold(barred), outbox_ids)
            if not fit:
                continue
            async for messages, settlements in means.postman.send(
                fit,
                may_send=lambda chunk: self._may_send() and progress.begin(chunk),
                histories=histories,
                threads=threads,
                admission=self._admission,
            ):
                left -= len(settlements)
                if not left:
                    means.order.leave(part)
                means.faults.reach("dispatch.after_send")
                await self._conclude(progress, messages, settlements, outbox_ids)
                means.faults.reach("dispatch.after_settle")
        if not progress.claimed:
            await self._settle((), (), outbox_ids)

    def _sort_out(
        self, messages: Sequence[ClaimedMessage]
    ) -> tuple[Sequence[ClaimedMessage], Sequence[ClaimedMessage]]:
        """Return what may still be sent, and what may not: what left before it has failed, and so would it.

        Those would cost an attempt each. Channels are told apart, each of which has breakers of its own.
        """
        gate = self._means.gate
        shut = {
            channel
            for channel in {message.channel for message in messages}
            if not gate.still_allows(channel, self._admission)
        }
        if not shut:
            return messages, ()
        return (
            [message for message in messages if message.channel not in shut],
            [message for message in messages if message.channel in shut],
        )

    async def _conclude(
        self,
        progress: Progress,
        messages: Sequence[ClaimedMessage],
        settlements: Sequence[Settlement],
        outbox_ids: Sequence[str],
    ) -> None:
        """Settle messages; the last of the batch close its envelopes."""
        last = progress.settling(settlements)
        await self._settle(messages, settlements, outbox_ids if last else ())
        progress.settled(settlements)
        if not last:
            await self._confirm()

    async def _confirm(self) -> None:
        """Look again whether the envelopes are ours, where their lease may have ended."""
        if not self._lease.holds:
            await _until_done(lambda: self._means.leases.confirm(self._lease))

    def _may_send(self) -> bool:
        ours = self._means.ownership.holds(self._owner) and self._lease.holds
        return ours and not self._slots.late

    async def _release(self, progress: Progress, outbox_ids: Sequence[str]) -> None:
        """Give back what no provider has been given: nobody needs to ask what became of it.

        While something else is open, a settlement under way too, its envelope stays open: its lease ends, and
        whoever takes it over asks.
        """
        left = progress.untouched()
        if not left or not self._means.ownership.holds(self._owner):
            return
        whole = len(left) == progress.open_count
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_RELEASE_TIMEOUT):
                await self._settle(left, self._means.postman.release(left), outbox_ids if whole else ())

    async def _look_back(
        self, claimed: Sequence[ClaimedMessage]
    ) -> tuple[dict[str, History], dict[str, MailThread]]:
        """Return what those not in their first attempt have been through, and what e-mails answer."""
        numbers = {message.id: message.attempt for message in claimed if message.attempt > 1}
        mails = {message.id: message.conversation_id for message in claimed if message.channel == "email"}
        histories: dict[str, History] = {}
        threads: dict[str, MailThread] = {}
        if numbers or mails:
            async with self._means.database.hot() as connection:
                if numbers:
                    tries = await load_tries(connection, list(numbers))
                    histories = {one: history_of(tries.get(one, ()), before=numbers[one]) for one in numbers}
                if mails:
                    threads = await load_threads(connection, mails)
        return histories, threads

    async def _next(self, parts: list[Part]) -> tuple[Part, bool]:
        """Take out what may leave next, once what was accepted before it has left.

        Another slot works meanwhile. Returns whether there was anything to wait for.
        """
        if not parts[0].must_wait:
            return parts.pop(0), False
        with self._slots.waiting(_MOST_SLOTS_IN_COMPANY if parts[0].elsewhere else _MOST_SLOTS):
            if parts[0].elsewhere:
                return join(await self._means.company.next(parts)), True
            await parts[0].wait()
        return parts.pop(0), True

    async def _settle(
        self, messages: Sequence[ClaimedMessage], settlements: Sequence[Settlement], outbox_ids: Sequence[str]
    ) -> None:
        """Settle, however long the database stays away: what was sent must not be forgotten."""
        await _until_done(
            lambda: self._means.settler.settle(
                messages, settlements, settled_outbox_ids=outbox_ids, owner=self._owner
            )
        )


async def _until_done(act: Callable[[], Awaitable[_T]]) -> _T:
    while True:
        try:
            return await act()
        except UnavailableError:
            await asyncio.sleep(_SETTLE_RETRY)
