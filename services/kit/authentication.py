"""Finds out who calls: an API key or a JWT, in metadata or headers alike."""

import asyncio
from collections.abc import Iterable

from services.kit.api_keys import KeyRing, KeyStore
from services.kit.background import in_background
from services.kit.callers import Caller
from services.kit.cancelling import cancel_all
from services.kit.config import Settings
from services.kit.errors import UnauthenticatedError
from services.kit.jwk_sets import JwkSet
from services.kit.jwt_tokens import TokenPolicy, TokenVerifier
from services.kit.rate_limit_clients import Clients, credential

Metadata = Iterable[tuple[str, str | bytes]] | None

_JWT_DOTS = 2


class Authenticator:
    """Checks credentials against what is in memory, and keeps that fresh while it runs."""

    def __init__(
        self,
        *,
        keys: KeyRing | None = None,
        tokens: TokenVerifier | None = None,
        clients: Clients | None = None,
        open_endpoints: Iterable[str] = (),
    ) -> None:
        self._keys = keys
        self._tokens = tokens
        self._clients = clients or Clients()
        self.open_endpoints = frozenset(open_endpoints)
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    def build(cls, settings: Settings, store: KeyStore) -> "Authenticator | None":
        """Return what the settings ask for, None when calls are not to be authenticated."""
        if not settings.authenticates:
            return None
        keys = tokens = None
        if settings.api_key_secret is not None:
            keys = KeyRing(store, settings.api_key_secret.get_secret_value())
        if settings.jwt_issuer is not None:
            policy = TokenPolicy(
                settings.jwt_issuer,
                settings.jwt_audience or "",
                settings.jwt_scopes_claim,
                settings.jwt_secret.get_secret_value() if settings.jwt_secret else "",
            )
            tokens = TokenVerifier(policy, JwkSet(settings.jwt_keys) if settings.jwt_keys else None)
        return cls(
            keys=keys,
            tokens=tokens,
            clients=Clients.build(settings),
            open_endpoints=settings.open_endpoints.split(),
        )

    def start(self) -> None:
        """Begin to read keys in the background, for as long as it takes."""
        if self._keys is not None:
            self._tasks.append(in_background("api-keys", self._keys.run))
        if self._tokens is not None and self._tokens.keys is not None:
            self._tasks.append(in_background("jwks", self._tokens.keys.run))

    async def close(self) -> None:
        """Stop reading keys."""
        await cancel_all(self._tasks)

    def is_gateway(self, metadata: Metadata) -> bool:
        """Tell whether a call comes from our own gateway."""
        return self._clients.is_gateway(metadata)

    def speaks_for_itself(self, metadata: Metadata) -> bool:
        """Tell whether a call comes from our own gateway, and on behalf of nobody."""
        return self.is_gateway(metadata) and not _secret(metadata)

    async def authenticate(self, metadata: Metadata) -> Caller:
        """Return who calls; raises UnauthenticatedError, or UnavailableError while that cannot be told.

        What is wrong with a credential is not said: that would only help who guesses.
        """
        secret = _secret(metadata)
        if not secret:
            raise UnauthenticatedError("a credential is needed: an API key or a bearer token")
        caller = None
        if secret.count(".") == _JWT_DOTS:
            caller = await self._tokens.find(secret) if self._tokens else None
        elif self._keys is not None:
            caller = await self._keys.find(secret)
        if caller is None:
            raise UnauthenticatedError("the credential is not known, or it has expired or been revoked")
        return caller


def _secret(metadata: Metadata) -> str:
    return credential(
        (name, value.decode("latin-1") if isinstance(value, bytes) else value)
        for name, value in metadata or ()
    )
