"""What commands share that work on the ledger itself, whether or not the processes of a stack run."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from services.kit.config import Settings, WrongSettingError, load_settings
from services.kit.errors import PosthouseError, UnavailableError
from services.kit.logs import configure_logging

if TYPE_CHECKING:
    from services.ledger.database import Database
    from services.ledger.relay import Relay

_T = TypeVar("_T")

SinceOption = Annotated[datetime | None, typer.Option(help="Only from this time on, UTC")]
UntilOption = Annotated[datetime | None, typer.Option(help="Only before this time, UTC")]
DataDirOption = Annotated[Path | None, typer.Option(help="Folder of the stack's data (default: .posthouse)")]


def local_settings(data_dir: Path | None) -> Settings:
    """Return the settings of a command; `data_dir` is the folder it was given, if any."""
    return load_settings(**({} if data_dir is None else {"data_dir": data_dir}))


def settings_of(data_dir: Path | None, process: str) -> Settings:
    """Return the settings of a command, and have it log as `process`.

    Their database is that of DATABASE_URL, else that of the stack that runs on the data folder. Where
    `data_dir` is asked for by name and both are there and differ, the command ends: it would work on a
    database that was not meant.
    """
    from cli.datadir import DataDir  # noqa: PLC0415 - not to be had on Windows

    settings = local_settings(data_dir)
    configure_logging(process, level="error", style="console")
    # It sets a level of its own, and warns of every try; the command says once that none succeeded.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    state = DataDir(settings.data_dir).read_state()
    if "database_url" not in settings.model_fields_set:
        return settings if state is None else settings.model_copy(update={"database_url": state.database_url})
    if data_dir is not None and state is not None and state.database_url != settings.database_url:
        raise typer.BadParameter(
            f"DATABASE_URL names another database than that of the stack which runs on {data_dir}",
            param_hint="--data-dir",
        )
    return settings


@asynccontextmanager
async def opened_ledger(
    settings: Settings, name: str, *, pool_size: int = 2, database_timeout: float | None = None
) -> "AsyncIterator[Database]":
    """Yield the ledger of a command; `database_timeout` is in seconds, by default that of the settings.

    Raises UnavailableError that says where it was looked for, when nobody has said where it is.
    """
    from services.ledger.database import Database  # noqa: PLC0415 - commands that need none need not load it

    database = Database(
        settings.database_url,
        pool_size=pool_size,
        timeout=settings.database_timeout if database_timeout is None else database_timeout,
        name=name,
        keyring=settings.keyring,
    )
    await database.start()
    try:
        yield database
    except UnavailableError as error:
        if "database_url" in settings.model_fields_set:
            raise
        reason = f"no stack runs on {settings.data_dir}, and DATABASE_URL is not set"
        raise UnavailableError(f"{error.message}: {reason}; --data-dir names another folder") from error
    finally:
        await database.close()


def silent_relay(settings: Settings, database: "Database", name: str) -> "Relay":
    """Return a relay that publishes nothing: the sweepers of the running processes do that."""
    from services.kit.bus import Bus, BusConfig  # noqa: PLC0415 - the same
    from services.ledger.relay import Relay  # noqa: PLC0415 - the same

    bus = Bus(BusConfig(settings.nats_url.split(","), f"posthouse-{name}", settings.nats_replicas))
    return Relay(database, bus, republish_after=settings.outbox_republish_after)


def in_utc(time: datetime | None) -> datetime | None:
    """Return a time of the command line with its zone."""
    return None if time is None else time.replace(tzinfo=UTC)


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Return what the work does, or end the command with its error in one line."""
    try:
        return asyncio.run(work)
    except (PosthouseError, WrongSettingError) as error:
        typer.echo(f"posthouse: {error}", err=True)
        raise typer.Exit(1) from error
