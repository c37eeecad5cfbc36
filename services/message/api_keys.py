"""Makes, lists, rotates and revokes API keys, for the RPCs and for the command line alike."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from posthouse.v1 import auth_pb2
from services.kit.api_keys import digest_of, make_secret
from services.kit.callers import current_caller
from services.kit.errors import InvalidRequestError, PreconditionError
from services.kit.fault_points import FaultPoints
from services.kit.ids import new_id, parse_id
from services.kit.logs import get_logger
from services.kit.scopes import SCOPES
from services.ledger import api_keys
from services.ledger.database import Database

_log = get_logger(__name__)

_LONGEST_NAME = 100
_LONGEST_OVERLAP = timedelta(days=30)


class ApiKeyKeeper:
    """The API keys of a ledger. Whoever changes one is in the log."""

    def __init__(self, database: Database, pepper: str | None, *, faults: FaultPoints | None = None) -> None:
        self._faults = faults or FaultPoints()
        self._database = database
        self._pepper = pepper

    async def create(
        self, name: str, scopes: Sequence[str], expire_time: datetime | None
    ) -> tuple[auth_pb2.ApiKey, str]:
        """Return a new key and its secret, which nobody can show again."""
        name = name.strip()
        if not 1 <= len(name) <= _LONGEST_NAME or not name.isprintable():
            raise InvalidRequestError.field("name", f"must be 1 to {_LONGEST_NAME} printable characters")
        if not scopes or set(scopes) - set(SCOPES):
            raise InvalidRequestError.field("scopes", f"must be some of {', '.join(SCOPES)}")
        if expire_time is not None and expire_time <= self._database.clock.now():
            raise InvalidRequestError.field("expire_time", "must be in the future")
        secret, prefix, digest = self._secret()
        async with self._changing() as connection:
            key = await api_keys.insert_key(
                connection,
                key_id=new_id(),
                name=name,
                scopes=[scope for scope in SCOPES if scope in scopes],
                prefix=prefix,
                digest=digest,
                expire_time=expire_time,
            )
        _note("api_key_created", key, scopes=list(scopes))
        return key, secret

    async def rotate(self, key_id: str, overlap: timedelta) -> tuple[auth_pb2.ApiKey, str]:
        """Return a key with its new secret; the one before is taken for `overlap` longer."""
        key_id = parse_id("api_key_id", key_id)
        if not timedelta(0) <= overlap <= _LONGEST_OVERLAP:
            raise InvalidRequestError.field("overlap", f"must be 0 to {_LONGEST_OVERLAP.days} days")
        secret, prefix, digest = self._secret()
        async with self._changing() as connection:
            key = await api_keys.rotate_key(connection, key_id, prefix=prefix, digest=digest, overlap=overlap)
        _note("api_key_rotated", key, overlap_seconds=overlap.total_seconds())
        return key, secret

    async def revoke(self, key_id: str) -> auth_pb2.ApiKey:
        """End a key for good."""
        key_id = parse_id("api_key_id", key_id)
        async with self._changing() as connection:
            key = await api_keys.revoke_key(connection, key_id)
        _note("api_key_revoked", key)
        return key

    async def list(
        self, *, include_revoked: bool, before: str | None, limit: int
    ) -> Sequence[auth_pb2.ApiKey]:
        """Return keys, newest first, after the one with the id `before`."""
        async with self._database.read() as connection:
            return await api_keys.list_keys(
                connection, include_revoked=include_revoked, before=before, limit=limit
            )

    @contextlib.asynccontextmanager
    async def _changing(self) -> AsyncIterator[AsyncConnection]:
        self._faults.reach("message.before_api_key")
        async with self._database.write() as connection:
            yield connection
        self._faults.reach("message.after_api_key")

    def _secret(self) -> tuple[str, str, bytes]:
        if self._pepper is None:
            raise PreconditionError("API keys are not in use: POSTHOUSE_API_KEY_SECRET is not set")
        secret, prefix = make_secret()
        return secret, prefix, digest_of(secret, self._pepper)


def _note(event: str, key: auth_pb2.ApiKey, **fields: object) -> None:
    caller = current_caller()
    _log.info(event, key_id=key.id, name=key.name, by=caller.id if caller else "command line", **fields)
