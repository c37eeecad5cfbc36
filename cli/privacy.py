"""Erasure from the command line: straight to the database, whether or not the processes run."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from services.kit.config import Settings, load_settings
from services.kit.errors import PosthouseError
from services.kit.logs import configure_logging

if TYPE_CHECKING:
    from posthouse.v1 import privacy_service_pb2 as pb
    from services.message.erasing import Eraser

app = typer.Typer(help="Erase what is kept of a person, and list who had what erased.", no_args_is_help=True)

_T = TypeVar("_T")
_DataDir = Annotated[Path | None, typer.Option(help="Folder of the stack's data (default: .posthouse)")]
_PAGE = 200


@app.command()
def erase(
    address: Annotated[str, typer.Argument(help="Telephone number or e-mail address, in any form")],
    reason: Annotated[str, typer.Option(help="Why; kept in the record")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask")] = False,
    data_dir: _DataDir = None,
) -> None:
    """Erase every message from and to an address, and wait until it is done. Opt-outs stay."""
    if not yes:
        typer.confirm("Every message from and to this address will be gone for good. Go on?", abort=True)

    async def work(eraser: "Eraser") -> "pb.Erasure":
        from posthouse.v1 import privacy_service_pb2 as pb  # noqa: PLC0415 - other commands need not load it

        request = pb.EraseAddressRequest(address=address, reason=reason)
        begun = await eraser.begin(request, caller="command line")
        await eraser.work()
        return await eraser.get(begun.erasure.id)

    typer.echo(_line(_with_eraser(data_dir, work)))


@app.command("list")
def list_erasures(data_dir: _DataDir = None) -> None:
    """List erasures, newest first: id, time, address, who asked, what went, and why."""

    async def work(eraser: "Eraser") -> "list[pb.Erasure]":
        from posthouse.v1 import privacy_service_pb2 as pb  # noqa: PLC0415 - the same

        found: list[pb.Erasure] = []
        page = pb.ListErasuresResponse(next_page_token="")
        while True:
            page = await eraser.page(pb.ListErasuresRequest(page_size=_PAGE, page_token=page.next_page_token))
            found += page.erasures
            if not page.next_page_token:
                return found

    for erasure in _with_eraser(data_dir, work):
        typer.echo(_line(erasure))


def _line(erasure: "pb.Erasure") -> str:
    counts = (
        f"messages {erasure.message_count}, conversations {erasure.conversation_count}, "
        f"webhooks {erasure.webhook_count}, cancelled {erasure.cancelled_count}"
    )
    state = "done" if erasure.HasField("end_time") else "under way"
    return "  ".join(
        [
            erasure.id,
            erasure.create_time.ToJsonString(),
            erasure.masked_address,
            state,
            counts,
            f"by {erasure.caller or 'nobody known'}",
            erasure.reason,
        ]
    ).rstrip()


def _with_eraser(data_dir: Path | None, work: "Callable[[Eraser], Awaitable[_T]]") -> _T:
    from services.ledger.database import Database  # noqa: PLC0415 - other commands need not load it
    from services.message.erasing import Eraser  # noqa: PLC0415 - the same

    settings = load_settings(**({"data_dir": data_dir} if data_dir is not None else {}))
    configure_logging("privacy", level="error", style="console")

    async def run() -> _T:
        database = Database(_database_url(settings), pool_size=3, timeout=30, name="privacy")
        await database.start()
        try:
            return await work(Eraser(database))
        finally:
            await database.close()

    try:
        return asyncio.run(run())
    except PosthouseError as error:
        typer.echo(f"posthouse: {error.message}", err=True)
        raise typer.Exit(1) from error


def _database_url(settings: Settings) -> str:
    """Return DATABASE_URL, else that of the stack that runs on the data folder."""
    from cli.datadir import DataDir  # noqa: PLC0415 - not to be had on Windows

    state = None if "database_url" in settings.model_fields_set else DataDir(settings.data_dir).read_state()
    return settings.database_url if state is None else state.database_url
