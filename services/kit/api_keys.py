"""API keys: what they look like, and those there are, held in memory so that a check asks nobody.

A key is `ph_PREFIX_SECRET`. What is stored is the prefix, by which it is found, and the HMAC-SHA256 of
all of it, keyed with a secret of the settings: whoever reads the database can neither use nor forge one.
"""

import asyncio
import hmac
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from services.kit.callers import Caller
from services.kit.errors import PosthouseError, UnavailableError
from services.kit.logs import get_logger

_log = get_logger(__name__)

# Seconds between two looks for changes; a key that is revoked is refused after that at the latest.
_REFRESH: Final = 1.0
# Seconds between two looks on behalf of keys that are not known, however many callers invent some.
_MISS_PAUSE: Final = 0.1
# Seconds without a successful look after which keys are no longer vouched for.
_STALE: Final = 60.0

_KEY: Final = re.compile(r"ph_([0-9a-f]{16})_[A-Za-z0-9_-]{43}")


def make_secret() -> tuple[str, str]:
    """Return a new key as the caller sends it, 256 bits of it random, and its prefix."""
    prefix = secrets.token_hex(8)
    return f"ph_{prefix}_{secrets.token_urlsafe(32)}", prefix


def digest_of(key: str, pepper: str) -> bytes:
    """Return the 32 bytes that are stored of a key."""
    return hmac.digest(pepper.encode(), key.encode(), "sha256")


@dataclass(frozen=True, slots=True)
class StoredKey:
    """One secret of an API key that is not revoked."""

    caller: Caller
    digest: bytes
    # Unix time from which it is no longer taken; infinity: never.
    end_time: float


class KeyStore(Protocol):
    """Where API keys are kept."""

    async def stamp(self) -> object:
        """Return a value that is another one after every change."""

    def now(self) -> float:
        """Return the Unix time by the clock that `end_time` is of."""

    async def load(self) -> Mapping[str, StoredKey]:
        """Return the secrets that are not revoked, by prefix."""


class KeyRing:
    """The API keys of a store, read again within a second of every change."""

    def __init__(self, store: KeyStore, pepper: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._pepper = pepper
        self._clock = clock
        self._keys: Mapping[str, StoredKey] = {}
        self._stamp: object = None
        # When the keys were last known to be all there are.
        self._seen: float | None = None
        self._looked = -_MISS_PAUSE
        self._looking: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Look for changes for ever; cancel to stop. A store that does not answer is asked again."""
        failing = False
        while True:
            try:
                await self._refresh()
            except PosthouseError as error:
                if not failing:
                    _log.warning("api_keys_not_read", error=str(error))
                failing = True
            else:
                failing = False
            await asyncio.sleep(_REFRESH)

    async def find(self, key: str) -> Caller | None:
        """Return the caller behind a key, None when it is not taken.

        Raises UnavailableError while the keys cannot be told, which only asks a store that is away.
        """
        match = _KEY.fullmatch(key)
        if match is None:
            return None
        stored = self._keys.get(match[1])
        if stored is None or self._seen is None:
            # It may have been made a moment ago.
            if await self._look_again() and match[1] not in self._keys:
                await self._look_again()
            stored = self._keys.get(match[1])
        if self._seen is None or self._clock() - self._seen > _STALE:
            raise UnavailableError("API keys cannot be checked now", retry_after=1)
        if stored is None or not hmac.compare_digest(stored.digest, digest_of(key, self._pepper)):
            return None
        return stored.caller if self._store.now() < stored.end_time else None

    async def _look_again(self) -> bool:
        """Wait for a look at the store; return whether it had begun before, and may have missed the news."""
        joined = self._looking is not None
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        # A caller that goes away does not take the look from the others.
        await asyncio.shield(self._looking)
        return joined

    async def _look(self) -> None:
        try:
            await asyncio.sleep(max(0.0, self._looked + _MISS_PAUSE - self._clock()))
            await self._refresh()
        except PosthouseError:
            pass  # `run` says so
        finally:
            self._looked = self._clock()
            self._looking = None

    async def _refresh(self) -> None:
        began = self._clock()
        stamp = await self._store.stamp()
        if self._seen is None or stamp != self._stamp:
            self._keys = await self._store.load()
            # What changed after the stamp was read changes it again.
            self._stamp = stamp
        self._seen = began
