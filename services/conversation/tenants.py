"""The use case of tenants: asks whose numbers are, links conversations, writes languages back."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from services.conversation import contacts
from services.conversation.contacts import Claimed, Link, Meeting, Push
from services.conversation.languages import share_with_tenants
from services.conversation.listening import report_changes
from services.conversation.monitor import Failed, Known, MonitorClient, Unknown
from services.kit import metrics
from services.kit.breaker import Breaker
from services.kit.errors import UnavailableError
from services.kit.ids import NO_ID
from services.kit.logs import get_logger
from services.ledger.database import Database

_log = get_logger(__name__)

_Answer = TypeVar("_Answer")

# Numbers and languages one process has under way at a time; the register is a small service.
_CONCURRENCY: Final = 8
_POLL: Final = 1.0
_CATCH_UP: Final = 500

# How much a preference in the register counts for: less than a text that is plainly in another language.
_PREFERENCE_CONFIDENCE: Final = 0.8


@dataclass(frozen=True, slots=True)
class AskingPolicy:
    """When the register is asked (again). Times are in seconds."""

    # After an answer that nobody has the number; doubles each time.
    reconcile_interval: float = 300.0
    longest: float = 86_400.0
    # After a failure; doubles each time, with jitter.
    retry_base: float = 1.0
    retry_longest: float = 300.0
    # An unknown contact who writes again is asked about at once, but not more often than this.
    pause: float = 5.0
    # And a known one: numbers change hands.
    refresh: float = 86_400.0
    # Longer than the requests of one lookup can take.
    lease: float = 60.0

    def after_miss(self, misses: int) -> float:
        """Return the delay after so many misses before this one."""
        return min(self.longest, self.reconcile_interval * 2.0 ** min(misses, 30))

    def after_failure(self, failures: int) -> float:
        """Return the delay after so many failures before this one."""
        ceiling = min(self.retry_longest, self.retry_base * 2.0 ** min(failures, 30))
        return random.uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter


class TenantLinker:
    """Shares its work with the linkers of other processes: rows are leased in PostgreSQL."""

    def __init__(
        self,
        database: Database,
        monitor: MonitorClient,
        breaker: Breaker,
        policy: AskingPolicy,
    ) -> None:
        self._database = database
        self._monitor = monitor
        self._breaker = breaker
        self._policy = policy
        self._wake = asyncio.Event()

    async def meet(self, message_ids: Sequence[str]) -> None:
        """Note the contacts of messages: link those who are known, have the others asked about."""
        async with self._database.hot() as connection:
            met = await contacts.contacts_of(connection, message_ids)
        await self._meet(met)

    async def catch_up(self) -> None:
        """Note the contacts of every conversation without a tenant."""
        after: str | None = NO_ID
        while after is not None:
            async with self._database.hot() as connection:
                met, after = await contacts.read_unlinked(connection, after, _CATCH_UP)
            await self._meet(met)

    async def run(self) -> None:
        """Ask and write for ever; cancel to stop. What is under way then is done again after its lease."""
        while True:
            worked = 0
            with contextlib.suppress(UnavailableError):
                worked = await self.work()
            if not worked:
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_POLL):
                        await self._wake.wait()

    async def work(self) -> int:
        """Do what is due, as far as the breaker lets it, and return how much that was."""
        admitted = self._breaker.admit(_CONCURRENCY)
        if not admitted:
            return 0
        policy = self._policy
        claimed: list[Claimed] = []
        pushes: list[Push] = []
        try:
            async with self._database.hot() as connection:
                pushes = await contacts.claim_pushes(connection, limit=admitted, lease=policy.lease)
                left = admitted - len(pushes)
                claimed = await contacts.claim(connection, limit=left, lease=policy.lease) if left else []
        finally:
            self._breaker.give_back(admitted - len(claimed) - len(pushes))
        work = [*(self._ask(contact) for contact in claimed), *(self._push(push) for push in pushes)]
        # Each to its end: what fails of one is no reason to cut the others off.
        for failure in await asyncio.gather(*work, return_exceptions=True):
            if failure is not None:
                raise failure
        return len(work)

    async def _meet(self, met: Sequence[Meeting]) -> None:
        # Short codes and names are nobody's number.
        met = [each for each in met if each.address.startswith("+")]
        if not met:
            return
        policy = self._policy
        addresses = sorted({each.address for each in met})
        async with self._database.hot() as connection:
            await contacts.meet(connection, met, pause=policy.pause, refresh=policy.refresh)
        await self._link(addresses)
        self._wake.set()

    async def _link(self, addresses: Sequence[str]) -> list[Link]:
        async with self._database.hot() as connection:
            links = await contacts.link(connection, addresses)
            changes = (
                await share_with_tenants(connection, sorted({each.new for each in links})) if links else []
            )
        for each in links:
            _log.info("conversation_tenant_linked", **each._asdict())
        report_changes(changes)
        return links

    async def _ask(self, contact: Claimed) -> None:
        found = await self._counted(self._monitor.find(contact.address, contact.original))
        failed = isinstance(found, Failed)
        if isinstance(found, Known):
            await self._identify(contact, found)
            return
        metrics.TENANT_LOOKUPS.labels(_result(found)).inc()
        if isinstance(found, Failed):
            _log.warning("tenant_lookup_failed", reason=found.reason, failures=contact.failure_count + 1)
            again_after = self._policy.after_failure(contact.failure_count)
        else:
            again_after = self._policy.after_miss(contact.miss_count)
        async with self._database.hot() as connection:
            await contacts.settle(
                connection, contact.address, again_after=again_after, failed=failed, missed=not failed
            )

    async def _identify(self, contact: Claimed, found: Known) -> None:
        tenant = found.tenant
        async with self._database.hot() as connection:
            await contacts.identify(
                connection,
                contact.address,
                tenant_id=tenant.tenant_id,
                name=tenant.name,
                preference=tenant.language_preference,
                language=tenant.language,
                confidence=_PREFERENCE_CONFIDENCE,
            )
        # The lease ends last: whatever is cut off here is done again by who takes the contact next.
        links = await self._link([contact.address])
        async with self._database.hot() as connection:
            await contacts.settle(connection, contact.address, again_after=None)
        metrics.TENANT_LOOKUPS.labels(_result(found)).inc()
        if contact.miss_count or contact.failure_count:
            metrics.TENANT_RECONCILIATIONS.inc(len(links))

    async def _counted(self, asking: Awaitable[_Answer]) -> _Answer:
        """Return what the register says to an admitted request, and have the breaker note it."""
        try:
            answer = await asking
        except BaseException:
            self._breaker.give_back(1)
            raise
        failed = isinstance(answer, Failed)
        self._breaker.record(successes=not failed, failures=failed)
        return answer

    async def _push(self, push: Push) -> None:
        failure = await self._counted(self._monitor.set_language(push.tenant_id, push.language))
        metrics.TENANT_PUSHES.labels("failed" if failure else "written").inc()
        async with self._database.hot() as connection:
            if failure is None:
                await contacts.settle_push(connection, push.tenant_id, push.language)
            else:
                _log.warning("tenant_push_failed", reason=failure.reason, failures=push.push_count + 1)
                delay = self._policy.after_failure(push.push_count)
                await contacts.postpone_push(connection, push.tenant_id, delay)


def _result(found: Known | Unknown | Failed) -> str:
    if isinstance(found, Known):
        return "known"
    if isinstance(found, Failed):
        return "failed"
    return "ambiguous" if found.ambiguous else "unknown"
