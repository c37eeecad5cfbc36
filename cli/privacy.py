"""Erasure from the command line: straight to the database, whether or not the processes run."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from cli.direct import DataDirOption, opened_ledger, run, settings_of

if TYPE_CHECKING:
    from posthouse.v1 import privacy_service_pb2 as pb
    from services.message.erasing import Eraser

app = typer.Typer(help="Erase what is kept of a person, and list who had what erased.", no_args_is_help=True)

_T = TypeVar("_T")
_PAGE = 200


@app.command()
def erase(
    address: Annotated[str, typer.Argument(help="Telephone number or e-mail address, in any form")],
    reason: Annotated[str, typer.Option(help="Why; kept in the record")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask")] = False,
    data_dir: DataDirOption = None,
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
def list_erasures(data_dir: DataDirOption = None) -> None:
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
    from services.message.erasing import Eraser  # noqa: PLC0415 - other commands need not load it

    settings = settings_of(data_dir, "privacy")

    async def erase() -> _T:
        async with opened_ledger(settings, "privacy", pool_size=3, database_timeout=30) as database:
            return await work(Eraser(database))

    return run(erase())
