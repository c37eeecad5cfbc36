"""What is learned beside the calls: languages from what contacts write, tenants from the register."""

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from services.conversation.listening import Listener
from services.conversation.monitor import MonitorClient
from services.conversation.shared_feed import SharedFeed
from services.conversation.tenants import AskingPolicy, TenantLinker
from services.kit.background import in_background
from services.kit.breaker import CLOSED, Breaker, BreakerPolicy
from services.kit.bus import Bus
from services.kit.cancelling import cancel_all
from services.kit.config import Settings
from services.kit.logs import get_logger
from services.ledger.database import Database
from services.ledger.outbox import EVENT_SUBJECT

_log = get_logger(__name__)

# Of a lookup: one request for each form of the number.
_REQUESTS = 4


class RegisterHealth:
    """Whether the register of tenants answers, as its breaker has found out; true where none is asked."""

    def __init__(self) -> None:
        self._state = CLOSED

    def note(self, state: str) -> None:
        """Take note of the breaker's new state."""
        self._state = state
        _log.warning("monitor_breaker", state=state)

    async def answers(self) -> bool:
        """Tell whether it answers; never waits."""
        return self._state == CLOSED


@contextlib.asynccontextmanager
async def learning(
    settings: Settings, database: Database, bus: Bus, register: RegisterHealth
) -> AsyncIterator[None]:
    """Learn while the context is open. Several processes share the work."""
    listener = Listener(database)
    received = f"{EVENT_SUBJECT}.received"
    work: dict[str, Callable[[], Awaitable[None]]] = {
        "language": SharedFeed(
            bus, "conversation-language", [received], handle=listener.read, catch_up=listener.catch_up
        ).run
    }
    async with contextlib.AsyncExitStack() as stack:
        if settings.monitor_api_url:
            monitor = MonitorClient(settings.monitor_api_url, timeout=settings.monitor_timeout)
            stack.push_async_callback(monitor.close)
            linker = TenantLinker(
                database,
                monitor,
                _breaker(settings, register),
                AskingPolicy(
                    reconcile_interval=settings.monitor_reconcile_interval,
                    pause=min(5.0, settings.monitor_reconcile_interval),
                    lease=_REQUESTS * settings.monitor_timeout + 10.0,
                ),
            )
            work["tenant-events"] = SharedFeed(
                bus,
                "conversation-tenants",
                [received, f"{EVENT_SUBJECT}.accepted", f"{EVENT_SUBJECT}.scheduled"],
                handle=linker.meet,
                catch_up=linker.catch_up,
            ).run
            work["tenants"] = linker.run
        tasks = [in_background(name, run) for name, run in work.items()]
        try:
            yield
        finally:
            await cancel_all(tasks)


def _breaker(settings: Settings, register: RegisterHealth) -> Breaker:
    policy = BreakerPolicy(
        consecutive_failures=settings.breaker_failures,
        failure_rate=settings.breaker_failure_rate,
        cool_down=settings.breaker_cool_down,
        probes=settings.breaker_probes,
    )
    return Breaker(policy, clock=time.monotonic, on_change=register.note)
