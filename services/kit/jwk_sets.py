"""The public keys that JWTs are signed with: a JWKS (RFC 7517) from a file or an https address."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from services.kit.config import WrongSettingError
from services.kit.errors import UnavailableError
from services.kit.logs import get_logger

_log = get_logger(__name__)

# Seconds between two readings, and between two on behalf of tokens whose key is not known.
_REFRESH: Final = 60.0
_MISS_PAUSE: Final = 5.0
# Seconds until the next try while it cannot be read.
_RETRY: Final = 2.0
_TIMEOUT: Final = 5.0
_LARGEST: Final = 1 << 20
_SMALLEST_RSA: Final = 2048
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})

_ALGORITHMS: Final = {"RSA": "RS256", "OKP Ed25519": "EdDSA"}


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key, and the one algorithm it may be used with: the token has no say in that."""

    key: Any
    algorithm: str
    # Its id; empty when it has none.
    kid: str


class JwkSet:
    """The keys of one place, read again every minute, and sooner when a token names one that is not known."""

    def __init__(self, place: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._place = place
        self._is_url = "://" in place
        parts = urlsplit(place)
        if self._is_url and parts.scheme != "https" and parts.hostname not in _LOOPBACK:
            raise WrongSettingError("POSTHOUSE_JWT_KEYS: must be a file or an https address")
        if not self._is_url:
            _check_file(Path(place))
        self._clock = clock
        self._keys: list[PublicKey] | None = None
        self._read = -_MISS_PAUSE
        self._reading: asyncio.Task[None] | None = None
        # Changes with the keys, so that nothing is remembered of keys that are gone.
        self.version = 0

    async def run(self) -> None:
        """Read for ever; cancel to stop."""
        while True:
            await self._refresh()
            await asyncio.sleep(_RETRY if self._keys is None else _REFRESH)

    async def find(self, kid: str, algorithm: str) -> PublicKey | None:
        """Return the key of an id and algorithm, None when there is none.

        A token without an id gets the only key of its algorithm. Raises UnavailableError while nothing
        could be read yet.
        """
        found = self._find(kid, algorithm)
        if found is None and self._clock() - self._read >= _MISS_PAUSE:
            await self._refresh()
            found = self._find(kid, algorithm)
        if self._keys is None:
            raise UnavailableError("the keys of JWTs cannot be read now", retry_after=1)
        return found

    def _find(self, kid: str, algorithm: str) -> PublicKey | None:
        fitting = [key for key in self._keys or () if key.algorithm == algorithm and kid in ("", key.kid)]
        return fitting[0] if len(fitting) == 1 else None

    async def _refresh(self) -> None:
        """Read the keys; those read before stay when that fails. Several callers share one reading."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._load())
        await asyncio.shield(self._reading)

    async def _load(self) -> None:
        try:
            fetched = self._fetch() if self._is_url else asyncio.to_thread(Path(self._place).read_bytes)
            keys = parse_jwks(await fetched)
        except (httpx2.HTTPError, OSError, ValueError) as error:  # TimeoutError is an OSError
            _log.warning("jwks_not_read", error=_reason(error))
        else:
            if _identities(keys) != _identities(self._keys or []) or self._keys is None:
                self.version += 1
                _log.info("jwks_read", keys=len(keys))
            self._keys = keys
        finally:
            self._read = self._clock()
            self._reading = None

    async def _fetch(self) -> bytes:
        async with (
            # The client's own timeout is that of a single read: whoever sends a byte at a time meets it.
            asyncio.timeout(_TIMEOUT),
            httpx2.AsyncClient(timeout=_TIMEOUT, trust_env=False) as client,
            client.stream("GET", self._place) as response,
        ):
            response.raise_for_status()
            body = b""
            async for part in response.aiter_bytes():
                body += part
                if len(body) > _LARGEST:
                    raise ValueError("the JWKS is too large")
            return body


def _check_file(path: Path) -> None:
    """Raise WrongSettingError for a file without keys: an address may come to answer, a file is there."""
    try:
        parse_jwks(path.read_bytes())
    except (OSError, ValueError) as error:
        raise WrongSettingError(f"POSTHOUSE_JWT_KEYS: cannot be read: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """Return what went wrong, without the address, which may have a credential in it."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) if isinstance(error, ValueError) else type(error).__name__


def parse_jwks(text: bytes) -> list[PublicKey]:
    """Return the RSA (RS256) and Ed25519 (EdDSA) signing keys of a JWKS; raises ValueError.

    Other keys are passed over: a set may have some for other purposes. Symmetric ones never count.
    """
    document = orjson.loads(text)
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("not a JWKS")  # noqa: TRY004 - of the text, whose value is wrong
    keys = []
    for entry in entries:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
            continue
        kind = f"OKP {entry.get('crv')}" if entry.get("kty") == "OKP" else str(entry.get("kty"))
        algorithm = _ALGORITHMS.get(kind)
        if algorithm is None or entry.get("alg", algorithm) not in (algorithm, "Ed25519"):
            continue
        public = {name: value for name, value in entry.items() if name not in _PRIVATE}
        try:
            key = jwt.PyJWK(public, algorithm=algorithm).key
        except jwt.PyJWTError as error:
            raise ValueError("a key is malformed") from error
        if isinstance(key, RSAPublicKey) and key.key_size < _SMALLEST_RSA:
            raise ValueError("an RSA key is shorter than 2048 bits")
        keys.append(PublicKey(key, algorithm, str(entry.get("kid", ""))))
    return keys


# Members of a private key, which has no business in a published set.
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})


def _identities(keys: list[PublicKey]) -> list[tuple[str, str, Any]]:
    return [
        (key.kid, key.algorithm, key.key.public_numbers() if key.algorithm == "RS256" else _raw(key.key))
        for key in keys
    ]


def _raw(key: Any) -> bytes:
    raw: bytes = key.public_bytes_raw()
    return raw
