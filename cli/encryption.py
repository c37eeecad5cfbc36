"""Encryption of content at rest from the command line: new keys, where they are used, changing them."""

import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from cli.direct import DataDirOption, opened_ledger, run, settings_of
from services.kit.config import Settings, WrongSettingError
from services.kit.ids import NO_ID
from services.kit.keyring import new_key as make_key

if TYPE_CHECKING:
    from services.ledger.database import Database

app = typer.Typer(help="Encrypt bodies and raw requests at rest.", no_args_is_help=True)

_T = TypeVar("_T")

# Seconds a statement may take: `status` reads whole tables.
_TIMEOUT = 600.0
# Passes over a table; what others are working on is skipped, and found by the next one.
_PASSES = 10
_REPORT_EVERY = 20


@app.command("new-key")
def new_key(
    key_id: Annotated[str, typer.Argument(help="Id of the key (default: a random one)")] = "",
) -> None:
    """Print a new key, to be put before the others in POSTHOUSE_ENCRYPTION_KEYS."""
    try:
        typer.echo(make_key(key_id or f"k{secrets.token_hex(4)}"))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


@app.command()
def status(data_dir: DataDirOption = None) -> None:
    """Count the rows that each key is needed for; a key is done with when it has none."""

    async def work(database: "Database", settings: Settings) -> None:
        from services.ledger.resealing import keys_in_use  # noqa: PLC0415 - other commands need not load it

        async with database.hot() as connection:
            found = await keys_in_use(connection)
        keyring = settings.keyring
        typer.echo(f"New content is {_word(keyring.sealing_id)}.")
        for use in found:
            missing = use.key_id is not None and use.key_id not in keyring.key_ids
            note = "  THE KEY IS NOT CONFIGURED" if missing else ""
            typer.echo(f"{use.table:<16}  {use.rows:>12,}  {_word(use.key_id)}{note}")

    _with_database(data_dir, work)


@app.command()
def rotate(
    decrypt: Annotated[
        bool, typer.Option("--decrypt", help="With POSTHOUSE_ENCRYPTION_SEAL=false: store all as it is again")
    ] = False,
    data_dir: DataDirOption = None,
) -> None:
    """Bring everything to the first key, what is not encrypted yet as well; beside running processes.

    What was interrupted goes on where it was.
    """

    async def work(database: "Database", settings: Settings) -> int:
        if (settings.keyring.sealing_id is None) is not decrypt:
            raise WrongSettingError(
                "POSTHOUSE_ENCRYPTION_KEYS: must be set, and POSTHOUSE_ENCRYPTION_SEAL true"
                if not decrypt
                else "POSTHOUSE_ENCRYPTION_SEAL: must be false for --decrypt"
            )
        return await _reseal_all(database)

    if _with_database(data_dir, work):
        raise typer.Exit(1)


async def _reseal_all(database: "Database") -> int:
    """Bring both tables to the present key; return how many rows could not be."""
    from services.ledger.resealing import reseal  # noqa: PLC0415 - the same
    from services.ledger.sealing import MESSAGES, WEBHOOK_LOGS  # noqa: PLC0415 - the same

    failed = 0
    for table in (MESSAGES, WEBHOOK_LOGS):
        done, unreadable = 0, set[str]()
        for _ in range(_PASSES):
            skipped, batches, after = 0, 0, NO_ID
            while True:
                async with database.hot() as connection:
                    progress = await reseal(connection, table, after=after)
                if progress.last_id is None:
                    break
                after = progress.last_id
                done += progress.done
                skipped += progress.skipped
                unreadable.update(progress.unreadable)
                batches += 1
                if batches % _REPORT_EVERY == 0:
                    typer.echo(f"{table.name}: {done:,} so far")
            if not skipped:
                break
        typer.echo(f"{table.name}: {done:,} done")
        for reason in sorted(unreadable)[:_REPORT_EVERY]:
            typer.echo(f"posthouse: {reason}", err=True)
        if unreadable or skipped:
            typer.echo(
                f"posthouse: {table.name}: {len(unreadable) + skipped:,} rows left as they were", err=True
            )
        failed += len(unreadable) + skipped
    return failed


def _word(key_id: str | None) -> str:
    return "not encrypted" if key_id is None else f"encrypted with {key_id}"


def _with_database(data_dir: Path | None, work: "Callable[[Database, Settings], Awaitable[_T]]") -> _T:
    settings = settings_of(data_dir, "encryption")

    async def connected() -> _T:
        async with opened_ledger(settings, "encryption", database_timeout=_TIMEOUT) as database:
            return await work(database, settings)

    return run(connected())
