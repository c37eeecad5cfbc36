"""Search from the command line: straight to the database, whether or not the processes run."""

from typing import Annotated

import typer

from cli.direct import DataDirOption, run, settings_of

app = typer.Typer(help="Search of messages.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Keep `rebuild` a command of its own: a lone one would be the group itself."""


@app.command()
def rebuild(
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an interrupted rebuild has stopped")
    ] = False,
    data_dir: DataDirOption = None,
) -> None:
    """Index every message again, while search goes on."""
    from services.conversation.rebuilding import rebuild_search  # noqa: PLC0415 - only this command needs it

    settings = settings_of(data_dir, "search")
    count = run(rebuild_search(settings, resume=resume, report=typer.echo))
    typer.echo(f"{count:,} messages were indexed.")
