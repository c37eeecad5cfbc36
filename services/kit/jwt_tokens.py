"""JWTs (RFC 7519, RFC 8725) as credentials: signed by our issuer, for us, not expired."""

import hashlib
import time
from dataclasses import dataclass
from typing import Any, Final

import jwt

from services.kit.callers import Caller
from services.kit.jwk_sets import JwkSet
from services.kit.scopes import SCOPES

# Seconds by which clocks may differ.
_LEEWAY: Final = 10.0
_LONGEST: Final = 16 * 1024
_REMEMBERED: Final = 10_000
_SHARED: Final = "HS256"
_PUBLIC: Final = frozenset({"RS256", "EdDSA"})
_TIMES: Final = ("exp", "nbf", "iat")
# The end of the year 9999 as Unix time. What is later is no time in seconds: milliseconds, for instance.
_LAST: Final = 253_402_300_799


@dataclass(frozen=True, slots=True)
class TokenPolicy:
    """What a token must say to be taken."""

    issuer: str
    audience: str
    # The claim that lists scopes, separated by spaces or as a list.
    scopes_claim: str = "scope"
    # Key of HS256; empty: no HS256.
    secret: str = ""


@dataclass(frozen=True, slots=True)
class _Seen:
    caller: Caller
    # Unix time.
    end_time: float
    version: int


class TokenVerifier:
    """Checks tokens, and remembers those that passed until they expire: signatures are dear."""

    def __init__(self, policy: TokenPolicy, keys: JwkSet | None) -> None:
        self._policy = policy
        self.keys = keys
        self._seen: dict[bytes, _Seen] = {}

    async def find(self, token: str) -> Caller | None:
        """Return the caller a token names, None when it is not taken.

        Raises UnavailableError while the keys could not be read yet.
        """
        if len(token) > _LONGEST:
            return None
        digest = hashlib.sha256(token.encode()).digest()
        version = self.keys.version if self.keys else 0
        seen = self._seen.get(digest)
        if seen is None or seen.version != version:
            seen = await self._verify(token)
            if seen is None:
                return None
            while len(self._seen) >= _REMEMBERED:
                del self._seen[next(iter(self._seen))]
            self._seen[digest] = seen
        return seen.caller if time.time() < seen.end_time + _LEEWAY else None

    async def _verify(self, token: str) -> _Seen | None:
        try:
            header = jwt.get_unverified_header(token)
            algorithm = str(header.get("alg"))
            key = await self._key(algorithm, header.get("kid", ""))
            if key is None:
                return None
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._policy.audience,
                issuer=self._policy.issuer,
                leeway=_LEEWAY,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.PyJWTError:
            return None
        if not all(_is_time(claims[name]) for name in _TIMES if name in claims):
            return None
        try:
            who = f"{claims['iss']}\0{claims['sub']}".encode()
        except UnicodeEncodeError:  # half a surrogate pair, which JSON can write
            return None
        name = hashlib.blake2s(who, digest_size=16).hexdigest()
        caller = Caller(f"jwt:{name}", _scopes(claims.get(self._policy.scopes_claim)))
        return _Seen(caller, float(claims["exp"]), self.keys.version if self.keys else 0)

    async def _key(self, algorithm: str, kid: object) -> Any:
        """Return the key for the algorithm a token names, None unless it is one we have a key for."""
        if algorithm == _SHARED:
            return self._policy.secret or None
        if self.keys is None or algorithm not in _PUBLIC or not isinstance(kid, str):
            return None
        found = await self.keys.find(kid, algorithm)
        return None if found is None else found.key


def _is_time(claim: object) -> bool:
    """Tell whether a claim is a time (RFC 7519, NumericDate); the library takes texts and truths as well."""
    return type(claim) in (int, float) and 0 <= claim <= _LAST  # type: ignore[operator]  # a number


def _scopes(claim: object) -> frozenset[str]:
    """Return the scopes a claim lists; what is no scope of ours is meant for somebody else."""
    words = claim.split() if isinstance(claim, str) else claim if isinstance(claim, list) else []
    return frozenset(scope for scope in SCOPES if scope in words)
