"""The simulator: a carrier that lives in this process, survives it, and behaves as its profile says."""

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from services.kit.errors import InvalidRequestError
from services.kit.logs import get_logger
from services.providers.base import (
    LookupResult,
    OutboundMessage,
    Outcome,
    Provider,
    Retryable,
    WebhookContent,
    WebhookRequest,
)
from services.providers.simulator_courier import Courier
from services.providers.simulator_plan import body_hash, fingerprints, make_plan
from services.providers.simulator_profile import SimulatorProfile, default_profile
from services.providers.simulator_store import SimulatorStore
from services.providers.simulator_webhook import parse_events, verify_signature

_log = get_logger(__name__)

_T = TypeVar("_T")

# Seconds after which a change of profiles made by another process is seen.
_PROFILE_REFRESH: Final = 0.5

# The file could not be written: nothing was accepted.
_NOT_STORED: Final = Retryable("20503", "the simulator cannot write its file")


@dataclass(frozen=True, slots=True)
class SimulatorConfig:
    """What a simulator is made of. Processes with the same path are one carrier.

    `profiles` holds what differs from the channels' defaults. `capacity` is the number of accepted
    messages it remembers at least.
    """

    path: Path
    secret: str = field(repr=False)
    webhook_url: str
    channels: frozenset[str] = frozenset({"sms", "mms", "email", "voice"})
    profiles: Mapping[str, SimulatorProfile] = field(default_factory=dict)
    capacity: int = 1_000_000


class SimulatorProvider(Provider):
    """A provider of any channel that keeps what it accepted in a file and calls back over HTTP."""

    name = "simulator"
    batch_size = 1000
    # Everything it does is done when the call has returned, or its process has died.
    inquiry_delay = 1.0

    def __init__(self, config: SimulatorConfig) -> None:
        self.channels = config.channels
        self._config = config
        self._store = SimulatorStore(config.path, capacity=config.capacity)
        self._profiles = {channel: default_profile(channel) for channel in config.channels} | dict(
            config.profiles
        )
        self._profiles_read = 0.0
        self._thread: ThreadPoolExecutor | None = None
        self._courier: Courier | None = None

    async def start(self) -> None:
        """Open the file and begin to deliver callbacks, also those of processes that have died."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="simulator")
        await self._run(self._open)
        self._courier = Courier(
            self._store.callbacks, self._run, url=self._config.webhook_url, secret=self._config.secret
        )
        self._courier.start()

    async def close(self) -> None:
        """Stop delivering and close the file."""
        if self._courier is not None:
            await self._courier.close()
            self._courier = None
        if self._thread is not None:
            await self._run(self._store.close)
            self._thread.shutdown(wait=False)
            self._thread = None

    async def send(self, messages: Sequence[OutboundMessage]) -> list[Outcome]:
        """Accept messages, or do to them what their channel's profile says."""
        outcomes, latency = await self._run(self._accept, messages)
        if self._courier is not None:
            self._courier.wake()
        if latency:
            await asyncio.sleep(latency)
        return outcomes

    async def lookup(self, messages: Sequence[OutboundMessage]) -> list[LookupResult]:
        """Tell which attempts of messages were accepted; the file knows."""
        return await self._run(self._store.find, [(message.id, message.attempt) for message in messages])

    def verify(self, request: WebhookRequest) -> bool:
        """Tell whether a simulator with the same secret made this request within the last 300 seconds."""
        return verify_signature(self._config.secret, request)

    def parse(self, request: WebhookRequest) -> WebhookContent:
        """Return the receipts and replies of a verified request, or raise MalformedWebhookError."""
        return parse_events(request.body)

    async def profiles(self) -> dict[str, SimulatorProfile]:
        """Return the profile that holds for each channel."""
        return dict(await self._run(self._read_profiles))

    async def set_profile(self, channel: str, profile: SimulatorProfile) -> dict[str, SimulatorProfile]:
        """Change the behaviour for one channel, or for all when it is empty, and return what changed.

        All processes that share the file follow within a second, and a restart keeps it. Seeded draws
        begin anew. Raises InvalidRequestError for a channel the simulator does not carry.
        """
        if channel and channel not in self.channels:
            raise InvalidRequestError.field("profile.channel", "is not a channel of the simulator")
        changed = dict.fromkeys([channel] if channel else sorted(self.channels), profile)
        await self._run(self._store.set_profiles, changed)
        self._profiles_read = 0.0
        return changed

    def _open(self) -> None:
        self._store.open()
        self._store.configure(self._profiles)

    def _accept(self, messages: Sequence[OutboundMessage]) -> tuple[list[Outcome], float]:
        """Decide on messages and remember it; return the outcomes and the seconds the answer takes."""
        try:
            profiles = self._current_profiles()
            hashes = [body_hash(message) for message in messages]
            ordinals = self._ordinals(messages, hashes, profiles)
            plan = make_plan(messages, hashes, profiles, ordinals, time.time_ns() // 1_000_000)
            self._store.add(plan.accepted, plan.bundles)
        except sqlite3.Error as error:
            _log.warning("simulator_store_failed", error=str(error))
            return [_NOT_STORED] * len(messages), 0.0
        latency = max((profiles[message.channel].latency_ms for message in messages), default=0)
        return plan.outcomes, latency / 1000

    def _ordinals(
        self,
        messages: Sequence[OutboundMessage],
        hashes: Sequence[str],
        profiles: Mapping[str, SimulatorProfile],
    ) -> dict[int, tuple[int, int]]:
        """Return fingerprint and ordinal, by position, of the messages whose profile has a seed."""
        if not any(profile.seed for profile in profiles.values()):
            return {}
        seeded = [position for position, message in enumerate(messages) if profiles[message.channel].seed]
        keys = fingerprints(
            [messages[position] for position in seeded], [hashes[position] for position in seeded]
        )
        channels = {key: messages[position].channel for key, position in zip(keys, seeded, strict=True)}
        following = self._store.count_repeats(channels, Counter(keys))
        ordinals = {}
        for key, position in zip(keys, seeded, strict=True):
            ordinals[position] = (key, following[key])
            following[key] += 1
        return ordinals

    def _current_profiles(self) -> dict[str, SimulatorProfile]:
        if time.monotonic() - self._profiles_read > _PROFILE_REFRESH:
            self._read_profiles()
        return self._profiles

    def _read_profiles(self) -> dict[str, SimulatorProfile]:
        self._profiles = self._profiles | self._store.profiles()
        self._profiles_read = time.monotonic()
        return self._profiles

    async def _run(self, call: Callable[..., _T], *arguments: object) -> _T:
        """Run a blocking call on the thread that owns the file."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)
