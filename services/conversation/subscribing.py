"""What keeps endpoints of customers told: events become deliveries, deliveries requests, old ones go."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from services.conversation import event_deliveries
from services.conversation.delivering import DeliveryPolicy, DeliveryWorker
from services.conversation.shared_feed import SharedFeed
from services.conversation.subscription_news import SubscriptionNews
from services.conversation.subscriptions import SubscriptionKeeper
from services.kit.background import in_background
from services.kit.bus import BUS_ERRORS, Bus
from services.kit.cancelling import cancel_all
from services.kit.config import Settings
from services.kit.errors import UnavailableError
from services.kit.guarded_http import GuardedClient
from services.kit.ids import first_id_at
from services.kit.logs import get_logger
from services.kit.networks import parse_networks
from services.kit.public_targets import TargetPolicy, parse_ports
from services.ledger.database import Database
from services.ledger.outbox import EVENT_SUBJECT
from services.ledger.retention import delete_expired

_log = get_logger(__name__)

_CONSUMER: Final = "conversation-subscriptions"
# Seconds until the first subscription is noticed, and between looks at what has been kept long enough.
_LOOK: Final = 2.0
_CLEAN: Final = 300.0
# How much older than the oldest subscription messages may be whose events are looked up in the ledger.
_BEFORE: Final = timedelta(hours=1)
_CATCH_UP: Final = 2000


@dataclass(frozen=True, slots=True)
class EventNotes:
    """Notes for each subscription the events it waits for. Any number of processes may, the same ones too."""

    database: Database
    worker: DeliveryWorker

    async def take(self, message_ids: Sequence[str]) -> None:
        """Note what has happened to messages; what is noted already stays as it is."""
        async with self.database.hot() as connection:
            noted = await event_deliveries.note(connection, message_ids)
        if noted:
            self.worker.wake()

    async def catch_up(self) -> None:
        """Note what the ledger has of the time since the oldest subscription was made, a week at most."""
        async with self.database.hot() as connection:
            oldest = await event_deliveries.oldest_subscription(connection)
        if oldest is None:
            return
        week = datetime.now(UTC) - timedelta(seconds=event_deliveries.OLDEST)
        after = first_id_at(max(oldest - _BEFORE, week))
        while True:
            async with self.database.hot() as connection:
                found = await event_deliveries.messages_after(connection, after, _CATCH_UP)
            if not found:
                return
            await self.take(found)
            after = found[-1]


class Subscribing:
    """Reads the events while there are subscriptions, and only then."""

    def __init__(self, database: Database, bus: Bus, worker: DeliveryWorker, *, retention: float) -> None:
        self._database = database
        self._bus = bus
        self._notes = EventNotes(database, worker)
        self._retention = retention
        self._feed: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Run for ever; cancel to stop."""
        clean_at = asyncio.get_running_loop().time() + _CLEAN
        try:
            while True:
                try:
                    await self._look()
                    if asyncio.get_running_loop().time() >= clean_at:
                        clean_at = asyncio.get_running_loop().time() + _CLEAN
                        async with self._database.hot() as connection:
                            await delete_expired(connection, "event_deliveries", self._retention)
                except UnavailableError:
                    pass
                except Exception:  # noqa: BLE001 - the next look may work
                    _log.exception("subscriptions_not_read")
                await asyncio.sleep(_LOOK)
        finally:
            await self._stop()

    async def _look(self) -> None:
        async with self._database.hot() as connection:
            oldest = await event_deliveries.oldest_subscription(connection)
        if oldest is None and self._feed is not None:
            await self._stop()
            # It would gather what nobody waits for.
            if self._bus.connected:
                with contextlib.suppress(*BUS_ERRORS):
                    await self._bus.jetstream.delete_consumer("EVENTS", _CONSUMER)
        elif oldest is not None and self._feed is None:
            feed = SharedFeed(
                self._bus,
                _CONSUMER,
                [f"{EVENT_SUBJECT}.>"],
                handle=self._notes.take,
                catch_up=self._notes.catch_up,
                start=oldest,
            )
            self._feed = in_background("subscription-feed", feed.run)

    async def _stop(self) -> None:
        if self._feed is not None:
            await cancel_all([self._feed])
            self._feed = None


@contextlib.asynccontextmanager
async def subscribing(settings: Settings, database: Database, bus: Bus) -> AsyncIterator[SubscriptionKeeper]:
    """Post events while the context is open, and yield what answers for the subscriptions."""
    targets = TargetPolicy(
        parse_networks(settings.subscription_networks), parse_ports(settings.subscription_ports)
    )
    client = GuardedClient(targets, timeout=settings.subscription_timeout)
    policy = DeliveryPolicy(
        timeout=settings.subscription_timeout,
        concurrency=settings.subscription_concurrency,
        attempts=settings.subscription_attempts,
        retry_base=settings.subscription_retry_base,
        retry_max=settings.subscription_retry_max,
        disable_after=settings.subscription_disable_after,
    )
    news = SubscriptionNews(bus)
    worker = DeliveryWorker(
        database, client, policy, source=settings.webhook_base_url, disabled=news.disabled
    )
    work = Subscribing(database, bus, worker, retention=settings.subscription_retention)
    tasks = [
        in_background("event-deliveries", worker.run),
        in_background("subscriptions", work.run),
    ]
    try:
        yield SubscriptionKeeper(database, targets, wake=worker.wake, disabled=news.disabled)
    finally:
        await cancel_all(tasks)
        await worker.close()
        await client.close()
