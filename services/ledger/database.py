"""Connections to PostgreSQL: a pool for SQLAlchemy Core, and a small one for the hot transactions.

The hot path talks to psycopg directly, in single statements that commit by themselves: one round trip
a batch. Everything else goes through SQLAlchemy. See docs/decisions/0002-hot-path-sql.md.
"""

import contextlib
import time
from collections.abc import AsyncIterator, Iterator

import psycopg
import psycopg_pool
import sqlalchemy as sa
import sqlalchemy.exc
from psycopg.rows import TupleRow
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from services.kit import metrics
from services.kit.errors import UnavailableError
from services.kit.keyring import PLAIN, Keyring
from services.kit.logs import get_logger
from services.ledger.clock import LedgerClock

_log = get_logger(__name__)


class HotConnection(psycopg.AsyncConnection[TupleRow]):
    """A connection of psycopg that knows the keys of sealed content."""

    keyring: Keyring = PLAIN


def keyring_of(connection: AsyncConnection) -> Keyring:
    """Return the keys of sealed content that a connection of SQLAlchemy knows."""
    keyring: Keyring = connection.sync_engine.get_execution_options().get("keyring", PLAIN)
    return keyring


# Connections of the hot pool; more would only shrink the batches that share a transaction.
HOT_POOL_SIZE = 6

# The hot statements reach every row by an index. Their plans are made once, possibly while a table is
# still small, and must not settle for reading all of it.
_HOT_PLANNING = "-c enable_seqscan=off -c enable_bitmapscan=off -c random_page_cost=1.1"

# Reads are of one row or of thousands, by what is asked for. A plan for any parameters tests the items of an
# array one by one, and knows of no word how common it is.
_PLANNING = "-c plan_cache_mode=force_custom_plan"

_RETRY_AFTER = 1.0

# Seconds for which reads stay with the primary after the replica did not answer.
_REPLICA_PAUSE = 5.0


_PING = sa.text("SELECT current_setting('transaction_read_only'), clock_timestamp()")

# Of a server that answers and yet does not serve: a primary that was demoted or has been set to read only,
# and transactions that it ended because they waited too long.
_REFUSED = frozenset({"25006", "25P03", "25P04"})


def _refused(error: BaseException | None) -> bool:
    return isinstance(error, psycopg.Error) and error.sqlstate in _REFUSED


@contextlib.contextmanager
def translate_errors() -> Iterator[None]:
    """Turn the errors of a PostgreSQL that does not answer, or takes no writes, into UnavailableError."""
    try:
        yield
    except (psycopg.Error, sqlalchemy.exc.SQLAlchemyError) as error:
        cause = error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) else error
        away = (
            psycopg.OperationalError,  # those of the pool, too
            psycopg.InterfaceError,
            sqlalchemy.exc.OperationalError,
            sqlalchemy.exc.InterfaceError,
            sqlalchemy.exc.TimeoutError,
        )
        if not isinstance(error, away) and not _refused(cause):
            raise
        _log.warning("database_unavailable", error=type(cause).__name__)
        raise UnavailableError("the database does not answer", retry_after=_RETRY_AFTER) from error


def _forget_refusing(context: sa.ExceptionContext) -> None:
    """Have the pool give up its connections to a server that refuses: new ones may find the new primary."""
    if _refused(context.original_exception):
        context.is_disconnect = True


class Database:
    """The ledger's PostgreSQL. `start` never waits for the server; calls fail until it answers.

    With a `replica`, reads go there, and to `dsn` while the replica does not answer. Every connection has
    the `keyring`: what is written is sealed with it, and what is read is opened, by whoever it may be.
    """

    def __init__(
        self,
        dsn: str,
        *,
        pool_size: int,
        timeout: float,
        name: str,
        replica: str | None = None,
        keyring: Keyring = PLAIN,
    ) -> None:
        milliseconds = int(timeout * 1000)
        options = {
            "application_name": f"posthouse-{name}",
            "options": f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds} -c TimeZone=UTC",
            "connect_timeout": 5,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
        }

        def engine(url: str) -> AsyncEngine:
            made = create_async_engine(
                sa.make_url(url).set(drivername="postgresql+psycopg"),
                pool_size=max(1, pool_size - HOT_POOL_SIZE),
                max_overflow=0,
                pool_timeout=timeout,
                pool_pre_ping=True,
                # Errors must not quote bodies and addresses.
                hide_parameters=True,
                # For good: a connection that is switched to and fro is lost to its pool, or comes back in the
                # wrong mode, when a cancellation meets the switch.
                connect_args={
                    **options,
                    "options": f"{options['options']} {_PLANNING}",
                    "autocommit": True,
                },
                execution_options={"keyring": keyring},
            )
            sa.event.listen(made.sync_engine, "handle_error", _forget_refusing)
            return made

        self._engine = engine(dsn)
        self._replica = None if replica is None else engine(replica)
        self._replica_away_until = 0.0

        async def equip(connection: HotConnection) -> None:
            connection.keyring = keyring

        self._hot = psycopg_pool.AsyncConnectionPool(
            dsn,
            connection_class=HotConnection,
            configure=equip,
            min_size=1,
            max_size=min(HOT_POOL_SIZE, pool_size),
            timeout=min(timeout, 5.0),
            reconnect_timeout=2.0,
            open=False,
            kwargs={
                **options,
                "options": f"{options['options']} {_HOT_PLANNING}",
                "autocommit": True,
                "prepare_threshold": 2,
            },
        )
        self._dsn = dsn
        self._options = options
        self.clock = LedgerClock()
        self._count_connections()

    def _count_connections(self) -> None:
        """Have the metrics tell how many connections are in use, when they are asked."""
        engines = {"main": self._engine, "replica": self._replica}
        for name, engine in engines.items():
            if engine is not None and isinstance(engine.pool, sa.QueuePool):
                metrics.POOL_SIZE.labels(name).set(engine.pool.size())
                metrics.POOL_USAGE.labels(name).set_function(engine.pool.checkedout)
        metrics.POOL_SIZE.labels("hot").set(self._hot.max_size)
        metrics.POOL_USAGE.labels("hot").set_function(self._hot_in_use)

    def _hot_in_use(self) -> float:
        stats = self._hot.get_stats()
        return stats["pool_size"] - stats["pool_available"]

    async def start(self) -> None:
        """Open the pools without waiting for the server."""
        await self._hot.open(wait=False)

    async def close(self) -> None:
        """Close every connection."""
        await self._hot.close(timeout=2.0)
        await self._engine.dispose()
        if self._replica is not None:
            await self._replica.dispose()

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection on which every statement stands alone; of the replica if there is one.

        What was written a moment ago may not be there yet.
        """
        with translate_errors():
            async with contextlib.AsyncExitStack() as opened:
                connection = await self._open_replica(opened)
                if connection is None:
                    connection = await opened.enter_async_context(self._engine.connect())
                yield connection

    @contextlib.asynccontextmanager
    async def read_primary(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection like that of `read`, never of the replica."""
        with translate_errors():
            async with self._engine.connect() as connection:
                yield connection

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection in a transaction that commits at the end."""
        with translate_errors():
            async with self._engine.begin() as connection:
                await connection.exec_driver_sql("BEGIN")
                yield connection

    @contextlib.asynccontextmanager
    async def hot(self) -> AsyncIterator[HotConnection]:
        """Yield a psycopg connection in autocommit, for the single-statement transactions."""
        with translate_errors():
            async with self._hot.connection() as connection:
                try:
                    yield connection
                except psycopg.errors.ReadOnlySqlTransaction:
                    # The pool makes a new one, which may find the new primary.
                    await connection.close()
                    raise

    async def connect(self) -> HotConnection:
        """Return a connection outside the pools, for session state such as advisory locks."""
        with translate_errors():
            return await HotConnection.connect(self._dsn, autocommit=True, **self._options)  # type: ignore[arg-type]

    async def ping(self) -> bool:
        """Tell whether the server answers and takes writes, and what time it is there.

        How long to wait is for the caller to say, once: a second cancellation interrupts the first, and the
        connection would never go back to its pool.
        """
        async with self.read_primary() as connection:
            read_only, moment = (await connection.execute(_PING)).one()
            self.clock.hear(moment)
            writes = str(read_only) == "off"
            if not writes:
                await connection.invalidate()
        return writes

    async def _open_replica(self, opened: contextlib.AsyncExitStack) -> AsyncConnection | None:
        """Return a connection to the replica, opened for as long as that lasts; None where none answers."""
        if self._replica is None or time.monotonic() < self._replica_away_until:
            return None
        try:
            return await opened.enter_async_context(self._replica.connect())
        except (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError) as error:
            # A host that does not even refuse costs each try its timeout: no try for a while.
            self._replica_away_until = time.monotonic() + _REPLICA_PAUSE
            _log.warning("replica_unavailable", error=type(error).__name__)
            return None
