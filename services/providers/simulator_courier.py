"""Carries the simulator's callbacks to the webhook, and does not give up."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import aiohttp

from services.kit.logs import get_logger
from services.providers.simulator_queue import CallbackQueue, Claim
from services.providers.simulator_webhook import SIGNATURE_HEADER, TIMESTAMP_HEADER, sign

_log = get_logger(__name__)

_IN_FLIGHT: Final = 2
_REQUEST_SECONDS: Final = 10.0
# Longer than a request may take: while this process lives, nobody else delivers what it has claimed.
_HOLD_SECONDS: Final = 15.0
_FIRST_DELAY: Final = 0.1
_LAST_DELAY: Final = 5.0
# Seconds until another look for callbacks that other processes left behind.
_IDLE: Final = 0.5
_CLOSE_SECONDS: Final = 2.0

# Answers that say nothing about the request itself: the receiver is away or busy.
_AWAY: Final = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)

_FAILURES: Final = (aiohttp.ClientError, TimeoutError, OSError)

# Runs a blocking call on the thread that owns the file.
RunBlocking = Callable[..., Awaitable[object]]


class Courier:
    """Delivers what is due, in due order, with a bounded number of requests in flight."""

    def __init__(self, queue: CallbackQueue, run: RunBlocking, *, url: str, secret: str) -> None:
        self._queue = queue
        self._run = run
        self._url = url
        self._secret = secret
        self._woken = asyncio.Event()
        # Requests failed in a row; while there are any, one request at a time asks whether it is over.
        self._failures = 0
        self._slots = asyncio.Semaphore(_IN_FLIGHT)
        self._flights: set[asyncio.Task[None]] = set()
        self._loop_task: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession

    def start(self) -> None:
        """Begin to deliver."""
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=_REQUEST_SECONDS),
            connector=aiohttp.TCPConnector(limit=_IN_FLIGHT),
            headers={"Content-Type": "application/json", "User-Agent": "posthouse-simulator"},
        )
        self._loop_task = asyncio.create_task(self._deliver_forever(), name="simulator-courier")

    def wake(self) -> None:
        """Look for due callbacks: there are new ones."""
        self._woken.set()

    async def close(self) -> None:
        """Finish the requests in flight; what they do not deliver, another process or a restart will."""
        if self._loop_task is None:
            return
        self._loop_task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._loop_task
        if self._flights:
            _, late = await asyncio.wait(self._flights, timeout=_CLOSE_SECONDS)
            for flight in late:
                flight.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._session.close()
        with contextlib.suppress(sqlite3.Error):
            await self._run(self._queue.release)

    async def _deliver_forever(self) -> None:
        while True:
            try:
                await self._deliver_next()
            except sqlite3.Error as error:
                _log.warning("simulator_callbacks_stalled", error=str(error))
                await asyncio.sleep(1.0)

    async def _deliver_next(self) -> None:
        """Start one request, or wait until there may be something to deliver."""
        if self._failures and self._flights:
            await asyncio.wait(self._flights)
            return
        if self._failures:
            await asyncio.sleep(_backoff(self._failures))
        await self._slots.acquire()
        self._woken.clear()
        claimed: object = None
        try:
            claimed = await self._run(self._queue.claim, _HOLD_SECONDS)
        finally:
            if not isinstance(claimed, Claim):
                self._slots.release()
        if isinstance(claimed, Claim):
            flight = asyncio.create_task(self._fly(claimed), name="simulator-callback")
            self._flights.add(flight)
            flight.add_done_callback(self._flights.discard)
            return
        pause = claimed if isinstance(claimed, float) else _IDLE
        # Not wait_for: Python 3.11's loses a cancellation that comes together with the wake-up.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(pause, _IDLE)):
                await self._woken.wait()

    async def _fly(self, claim: Claim) -> None:
        """Deliver one request's callbacks, or give them back."""
        try:
            problem, refused = await self._post(claim.body)
            if problem:
                self._failures += 1
                if self._failures == 1:
                    _log.warning("simulator_callbacks_refused", problem=problem, events=claim.event_count)
                delay = _backoff(claim.tries + 1)
                if refused:
                    # Longer than the pause to come, after which these would be the first to be due again.
                    delay = max(delay, 2 * _backoff(self._failures))
                await self._run(lambda: self._queue.postpone(claim, delay, refused=refused))
            else:
                self._failures = 0
                await self._run(self._queue.finish, claim)
        except sqlite3.Error as error:
            # The hold ends by itself, and the callbacks are delivered again.
            _log.warning("simulator_callbacks_unsettled", error=str(error))
        finally:
            self._slots.release()

    async def _post(self, body: bytes) -> tuple[str, bool]:
        """Send one request; return what went wrong, if anything, and whether the body was to blame."""
        timestamp = str(int(time.time()))
        headers = {TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: sign(self._secret, timestamp, body)}
        try:
            async with self._session.post(
                self._url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                await answer.read()
                if answer.ok and answer.status < HTTPStatus.MULTIPLE_CHOICES:
                    return "", False
                return f"HTTP {answer.status}", answer.status not in _AWAY
        except _FAILURES as error:
            return type(error).__name__, False


def _backoff(failures: int) -> float:
    """Return the seconds to wait after this many failures in a row."""
    return float(min(_FIRST_DELAY * 2 ** min(failures - 1, 10), _LAST_DELAY))
