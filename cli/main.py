"""The `posthouse` command."""

import importlib
from typing import Annotated

import typer

from cli import dead_letters, encryption, keys, privacy, search, webhooks
from cli.direct import DataDirOption, local_settings, settings_of
from cli.supervisor import FIRST_PAUSE, LONGEST_PAUSE
from services.kit.config import WrongSettingError, load_settings, refuse
from services.kit.exposure import check_exposure
from services.kit.process import run_process

app = typer.Typer(
    name="posthouse",
    help="Self-hosted messaging: SMS, MMS and e-mail through one API.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)


app.add_typer(keys.app, name="keys")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(privacy.app, name="privacy")
app.add_typer(encryption.app, name="encryption")
app.add_typer(search.app, name="search")


@app.command()
def up(
    data_dir: DataDirOption = None,
    http_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of the HTTP gateway (default: 8000)")
    ] = None,
    grpc_port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65533, help="Port of MessageService; the next two are the others' (default: 50051)"
        ),
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address every server binds to (default: 127.0.0.1)")
    ] = None,
    nats_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the embedded NATS; 0: any free one")
    ] = 0,
    restart_pause: Annotated[
        float,
        typer.Option(
            min=FIRST_PAUSE, help="Longest pause before what has died is started again; pauses grow up to it"
        ),
    ] = LONGEST_PAUSE,
    monitor_simulator: Annotated[
        bool,
        typer.Option("--monitor-simulator", help="Run a Collections Monitor to try, with a tenant in it"),
    ] = False,
) -> None:
    """Run everything: PostgreSQL, NATS, the four processes, the simulator as provider of every channel.

    DATABASE_URL and NATS_URL, where set, name servers of your own to use instead.
    """
    from cli.stack import Stack  # noqa: PLC0415 - the processes below need not load it

    options = {"data_dir": data_dir, "http_port": http_port, "grpc_port": grpc_port, "host": host}
    settings = load_settings(**{name: value for name, value in options.items() if value is not None})
    try:
        check_exposure(settings)
    except WrongSettingError as error:
        refuse(error)
    if nats_port and "nats_url" in settings.model_fields_set:
        raise typer.BadParameter("NATS_URL names a server of your own", param_hint="--nats-port")
    stack = Stack(
        settings, nats_port=nats_port, restart_pause=restart_pause, monitor_simulator=monitor_simulator
    )
    raise typer.Exit(stack.run())


@app.command()
def message() -> None:
    """Run MessageService: intake of sends and webhooks."""
    _run("services.message")


@app.command()
def conversation() -> None:
    """Run ConversationService: queries and live events."""
    _run("services.conversation")


@app.command()
def dispatch() -> None:
    """Run DispatchService: the worker that hands messages to providers."""
    _run("services.dispatch")


@app.command()
def gateway() -> None:
    """Run the HTTP gateway: REST, webhooks, documentation."""
    _run("gateway")


@app.command("monitor-simulator")
def monitor_simulator(
    host: Annotated[str, typer.Option(help="Address to bind to")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any free one")] = 8010,
    data_dir: DataDirOption = None,
) -> None:
    """Run a Collections Monitor to try: tenants in monitor.json of the data folder, over HTTP."""
    import asyncio  # noqa: PLC0415 - only this command needs it

    from cli.monitor_simulator import serve  # noqa: PLC0415 - the same

    settings = local_settings(data_dir)
    try:
        asyncio.run(serve(settings.data_dir / "monitor.json", host, port))
    except OSError as error:
        typer.echo(f"posthouse: cannot listen on {host}:{port}: {error.strerror}", err=True)
        raise typer.Exit(1) from error


@app.command()
def migrate(
    revision: Annotated[str, typer.Option(help="Revision to bring the schema to")] = "head",
    down: Annotated[bool, typer.Option("--down", help="Go down to --revision instead of up")] = False,
    data_dir: DataDirOption = None,
) -> None:
    """Bring the database of DATABASE_URL, else of the running stack, to a revision of the schema."""
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - only this command needs it

    from services.ledger import migrate as ledger  # noqa: PLC0415 - the same

    settings = settings_of(data_dir, "migrate")
    if down and revision == "head":
        raise typer.BadParameter("--down needs a --revision to go down to, such as base")
    try:
        (ledger.downgrade if down else ledger.upgrade)(settings.database_url, revision)
    except SQLAlchemyError as error:
        typer.echo(f"posthouse: cannot migrate: {str(error).splitlines()[0]}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"The schema is at {revision}.")


@app.command()
def demo(
    url: Annotated[
        str | None, typer.Option(help="Address of the gateway (default: the stack in --data-dir)")
    ] = None,
    data_dir: DataDirOption = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds until it gives up")] = 30.0,
    api_key: Annotated[
        str,
        typer.Option(envvar="POSTHOUSE_API_KEY", help="Key with the scopes send and read"),
    ] = "",
) -> None:
    """Send an SMS, an MMS and an e-mail through a running stack and print what unfolds."""
    from cli.datadir import DataDir  # noqa: PLC0415 - only this command needs it
    from cli.demo import Demo, running_url  # noqa: PLC0415 - the same

    if url is not None and data_dir is not None:
        raise typer.BadParameter("give --url or --data-dir")
    settings = local_settings(data_dir)
    place = url or running_url(DataDir(settings.data_dir), settings)
    raise typer.Exit(Demo(place, timeout=timeout, api_key=api_key).run())


@app.command()
def health(
    process: Annotated[str, typer.Argument(help="message, conversation, dispatch or gateway")] = "gateway",
    data_dir: DataDirOption = None,
) -> None:
    """Ask a process on this machine how it is; the exit code is 0 if it can do its work.

    Its port is that of the settings, else that of the stack that runs on the data folder.
    """
    from cli.datadir import DataDir  # noqa: PLC0415 - only this command needs it
    from cli.health import address_of, is_healthy, running  # noqa: PLC0415 - the same

    settings = local_settings(data_dir)
    settings = running(DataDir(settings.data_dir).read_state(), settings)
    try:
        address = address_of(process, settings)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    healthy = is_healthy(process, settings)
    typer.echo(f"{process} at {address} {'answers' if healthy else 'does not answer, or is not ready'}")
    raise typer.Exit(0 if healthy else 1)


@app.command()
def version() -> None:
    """Print the version."""
    from cli.console import version as installed  # noqa: PLC0415 - only this command needs it

    typer.echo(f"posthouse {installed()}")


def _run(package: str) -> None:
    # Only the process that runs is loaded.
    main = importlib.import_module(f"{package}.__main__").main
    run_process(package.rpartition(".")[2], main, load_settings())


if __name__ == "__main__":
    app()
