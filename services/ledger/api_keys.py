"""The rows of API keys: changes one after the other, and the look that every process takes at them."""

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy.ext.asyncio import AsyncConnection

from posthouse.v1 import auth_pb2
from services.kit.api_keys import StoredKey
from services.kit.callers import Caller
from services.kit.enum_names import SCOPE
from services.kit.errors import NotFoundError, PreconditionError, UnavailableError
from services.ledger.database import Database
from services.ledger.event_batches import make_timestamp
from services.ledger.tables import api_keys

# Keys that are not revoked, at most: every process holds them all.
MOST_KEYS = 10_000

_LOCK = sa.text("SELECT pg_advisory_xact_lock(hashtextextended('posthouse.api_keys', 0))")
# The clock moves on within a transaction, so that times follow the order of the lock.
_NOW = sa.func.clock_timestamp()

_SHOWN = (
    api_keys.c.id,
    api_keys.c.name,
    api_keys.c.prefix,
    api_keys.c.scopes,
    api_keys.c.create_time,
    api_keys.c.rotate_time,
    api_keys.c.overlap_end_time,
    api_keys.c.expire_time,
    api_keys.c.revoke_time,
)


async def insert_key(
    connection: AsyncConnection,
    *,
    key_id: str,
    name: str,
    scopes: list[str],
    prefix: str,
    digest: bytes,
    expire_time: datetime | None,
) -> auth_pb2.ApiKey:
    """Store a new key and return it; raises PreconditionError when there are too many."""
    await connection.execute(_LOCK)
    count = sa.select(sa.func.count()).select_from(api_keys).where(api_keys.c.revoke_time.is_(None))
    if (await connection.execute(count)).scalar_one() >= MOST_KEYS:
        raise PreconditionError(f"there are {MOST_KEYS} API keys already: revoke those that are not used")
    row = await connection.execute(
        api_keys.insert()
        .values(
            id=key_id,
            name=name,
            scopes=scopes,
            prefix=prefix,
            digest=digest,
            expire_time=expire_time,
            create_time=_NOW,
            update_time=_NOW,
        )
        .returning(*_SHOWN)
    )
    return _shown(row.one())


async def rotate_key(
    connection: AsyncConnection, key_id: str, *, prefix: str, digest: bytes, overlap: timedelta
) -> auth_pb2.ApiKey:
    """Give a key another secret; the present one is taken for `overlap` longer. Raises NotFoundError."""
    await connection.execute(_LOCK)
    keeps = overlap > timedelta(0)
    row = await connection.execute(
        api_keys.update()
        .where(api_keys.c.id == key_id, api_keys.c.revoke_time.is_(None))
        .values(
            prefix=prefix,
            digest=digest,
            old_prefix=api_keys.c.prefix if keeps else None,
            old_digest=api_keys.c.digest if keeps else None,
            overlap_end_time=_NOW + overlap if keeps else None,
            rotate_time=_NOW,
            update_time=_NOW,
        )
        .returning(*_SHOWN)
    )
    return _shown(_found(row.one_or_none(), "no API key has this id, or it is revoked"))


async def revoke_key(connection: AsyncConnection, key_id: str) -> auth_pb2.ApiKey:
    """End a key; one that is revoked already stays as it is. Raises NotFoundError."""
    await connection.execute(_LOCK)
    await connection.execute(
        api_keys.update()
        .where(api_keys.c.id == key_id, api_keys.c.revoke_time.is_(None))
        .values(revoke_time=_NOW, update_time=_NOW, old_prefix=None, old_digest=None, overlap_end_time=None)
    )
    row = await connection.execute(sa.select(*_SHOWN).where(api_keys.c.id == key_id))
    return _shown(_found(row.one_or_none(), "no API key has this id"))


async def list_keys(
    connection: AsyncConnection, *, include_revoked: bool, before: str | None, limit: int
) -> list[auth_pb2.ApiKey]:
    """Return keys, newest first, after the one with the id `before`."""
    statement = sa.select(*_SHOWN).order_by(api_keys.c.id.desc()).limit(limit)
    if not include_revoked:
        statement = statement.where(api_keys.c.revoke_time.is_(None))
    if before is not None:
        statement = statement.where(api_keys.c.id < before)
    return [_shown(row) for row in await connection.execute(statement)]


class ApiKeyStore:
    """The keys as a KeyRing reads them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def stamp(self) -> object:
        """Return when a key was last changed."""
        return (await self._fetch(sa.select(sa.func.max(api_keys.c.update_time))))[0][0]

    def now(self) -> float:
        """Return the Unix time by the ledger's clock."""
        return self._database.clock.now().timestamp()

    async def load(self) -> Mapping[str, StoredKey]:
        """Return the secrets of keys that are not revoked, by prefix."""
        rows = await self._fetch(
            sa.select(
                api_keys.c.id,
                api_keys.c.scopes,
                api_keys.c.prefix,
                api_keys.c.digest,
                api_keys.c.old_prefix,
                api_keys.c.old_digest,
                api_keys.c.overlap_end_time,
                api_keys.c.expire_time,
            )
            .where(api_keys.c.revoke_time.is_(None))
            .limit(MOST_KEYS)
        )
        found: dict[str, StoredKey] = {}
        for row in rows:
            caller = Caller(f"key:{row.id}", frozenset(row.scopes))
            end = _unix(row.expire_time)
            found[row.prefix] = StoredKey(caller, row.digest, end)
            if row.old_prefix is not None:
                found[row.old_prefix] = StoredKey(
                    caller, row.old_digest, min(end, _unix(row.overlap_end_time))
                )
        return found

    async def _fetch(self, statement: sa.Select[Any]) -> list[Any]:
        try:
            async with self._database.read() as connection:
                return list(await connection.execute(statement))
        except sqlalchemy.exc.ProgrammingError as error:
            # The new code may run before its migration.
            raise UnavailableError("the API keys have no table yet", retry_after=1) from error


def _unix(moment: datetime | None) -> float:
    return math.inf if moment is None else moment.timestamp()


def _found(row: Any, complaint: str) -> Any:
    if row is None:
        raise NotFoundError(complaint, reason="API_KEY_NOT_FOUND")
    return row


def _shown(row: Any) -> auth_pb2.ApiKey:
    return auth_pb2.ApiKey(
        id=row.id,
        name=row.name,
        prefix=f"ph_{row.prefix}",
        scopes=[SCOPE.number(scope) for scope in row.scopes],
        create_time=make_timestamp(row.create_time),
        **{
            name: make_timestamp(moment)
            for name in ("rotate_time", "overlap_end_time", "expire_time", "revoke_time")
            if (moment := getattr(row, name)) is not None
        },
    )
