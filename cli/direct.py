"""What commands share that work on the ledger itself, whether or not the processes of a stack run."""

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from services.kit.config import Settings, WrongSettingError, load_settings
from services.kit.errors import PosthouseError
from services.kit.logs import configure_logging

_T = TypeVar("_T")

SinceOption = Annotated[datetime | None, typer.Option(help="Only from this time on, UTC")]
UntilOption = Annotated[datetime | None, typer.Option(help="Only before this time, UTC")]
DataDirOption = Annotated[Path | None, typer.Option(help="Folder of the stack's data (default: .posthouse)")]


def settings_of(data_dir: Path | None, process: str) -> Settings:
    """Return the settings of a command, and have it log as `process`.

    Their database is that of DATABASE_URL, else that of the stack that runs on the data folder.
    """
    from cli.datadir import DataDir  # noqa: PLC0415 - not to be had on Windows

    settings = load_settings(**({"data_dir": data_dir} if data_dir is not None else {}))
    configure_logging(process, level="error", style="console")
    state = None if "database_url" in settings.model_fields_set else DataDir(settings.data_dir).read_state()
    return settings if state is None else settings.model_copy(update={"database_url": state.database_url})


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
