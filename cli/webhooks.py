"""The log of webhooks from the command line: what came, what became of it, and doing it again."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from pydantic import SecretStr

from cli.direct import (
    DataDirOption,
    SinceOption,
    UntilOption,
    in_utc,
    opened_ledger,
    run,
    settings_of,
    silent_relay,
)
from services.kit.config import Settings
from services.kit.errors import PosthouseError
from services.kit.ids import parse_id

if TYPE_CHECKING:
    from services.ledger.database import Database
    from services.ledger.webhook_logs import LogFilter, LogSummary
    from services.message.replaying import Replayer

app = typer.Typer(help="List and replay what providers have sent.", no_args_is_help=True)

_T = TypeVar("_T")
_NAME = "webhooks"
_PAGE = 200


class Verdict(StrEnum):
    """What was made of a request's proof and body."""

    ACCEPTED = "accepted"
    UNVERIFIED = "unverified"
    FORGED = "forged"
    MALFORMED = "malformed"


_Provider = Annotated[str, typer.Option(help="Only of this provider")]
_Verdict = Annotated[Verdict | None, typer.Option(help="Only with this verdict")]


@app.command("list")
def list_entries(
    provider: _Provider = "",
    verdict: _Verdict = None,
    message: Annotated[str, typer.Option(help="Only what told of the message with this id")] = "",
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many")] = 100,
    data_dir: DataDirOption = None,
) -> None:
    """List kept requests, oldest first: id, time, provider, verdict, and what became of them."""

    async def work(database: "Database", _replayer: "Replayer") -> None:
        count = 0
        async for entry in _entries(database, _filter(provider, verdict, message, since, until)):
            typer.echo(_line(entry))
            count += 1
            if count == limit:
                return

    _run(data_dir, work)


@app.command()
def replay(
    entries: Annotated[list[str] | None, typer.Argument(help="Ids of entries, as `list` shows them")] = None,
    provider: _Provider = "",
    verdict: _Verdict = None,
    since: SinceOption = None,
    until: UntilOption = None,
    trust_forged: Annotated[
        bool, typer.Option("--trust-forged", help="Also what was refused as forged: you vouch for it")
    ] = False,
    data_dir: DataDirOption = None,
) -> None:
    """Apply kept requests again: those named, or all of a range. Nothing is done twice."""
    if not entries and since is None:
        raise typer.BadParameter("name entries, or give --since")
    if entries and any((provider, verdict, since, until)):
        raise typer.BadParameter("name entries, or say by --provider, --verdict, --since, --until which ones")

    async def work(database: "Database", replayer: "Replayer") -> int:
        failed = 0
        async for log_id in _chosen(database, entries, _filter(provider, verdict, "", since, until)):
            try:
                log = await replayer.replay(log_id, trust_forged=trust_forged)
            except PosthouseError as error:
                failed += 1
                typer.echo(f"posthouse: {error.message}", err=True)
                continue
            typer.echo(
                f"{log.id}  {log.verdict}  applied {log.applied_count}, repeated {log.repeated_count}, "
                f"parked {log.parked_count}, refused {log.refused_count}"
            )
        return failed

    if _run(data_dir, work):
        raise typer.Exit(1)


def _filter(
    provider: str, verdict: Verdict | None, message: str, since: datetime | None, until: datetime | None
) -> "LogFilter":
    from services.ledger.webhook_logs import LogFilter  # noqa: PLC0415 - other commands need not load it

    return LogFilter(
        provider=provider,
        verdict=verdict or "",
        message_id=parse_id("message", message) if message else "",
        since=in_utc(since),
        until=in_utc(until),
    )


async def _entries(database: "Database", chosen: "LogFilter") -> "AsyncIterator[LogSummary]":
    from services.ledger.webhook_logs import list_logs  # noqa: PLC0415 - the same

    after = ""
    while True:
        async with database.read() as connection:
            page = await list_logs(connection, chosen, limit=_PAGE, after=after)
        for entry in page:
            yield entry
        if len(page) < _PAGE:
            return
        after = page[-1].id


async def _chosen(database: "Database", named: list[str] | None, chosen: "LogFilter") -> AsyncIterator[str]:
    for log_id in named or ():
        yield parse_id("entry", log_id)
    if not named:
        async for entry in _entries(database, chosen):
            yield entry.id


def _line(entry: "LogSummary") -> str:
    counts = (
        ("applied", entry.applied_count),
        ("repeated", entry.repeated_count),
        ("parked", entry.parked_count),
        ("refused", entry.refused_count),
    )
    told = ", ".join(f"{word} {count}" for word, count in counts if count) or "nothing"
    parts = [entry.id, entry.create_time.isoformat(timespec="seconds"), entry.provider, entry.verdict, told]
    parts += entry.message_ids or ()
    if entry.detail:
        parts.append(entry.detail)
    if entry.replay_time is not None:
        parts.append(f"replayed {entry.replay_time.isoformat(timespec='seconds')}")
    return "  ".join(parts)


def _run(data_dir: Path | None, work: "Callable[[Database, Replayer], Awaitable[_T]]") -> _T:
    settings = settings_of(data_dir, _NAME)
    if settings.simulator_secret is None:
        # Not to check anything with: a provider that is not set up cannot read either.
        settings = settings.model_copy(update={"simulator_secret": SecretStr("unused")})

    async def replay() -> _T:
        async with _opened(settings) as (database, replayer):
            return await work(database, replayer)

    return run(replay())


@asynccontextmanager
async def _opened(settings: Settings) -> "AsyncIterator[tuple[Database, Replayer]]":
    from services.kit.fault_points import FaultPoints  # noqa: PLC0415 - the same
    from services.message.commit import GroupCommitter  # noqa: PLC0415 - the same
    from services.message.replaying import Replayer  # noqa: PLC0415 - the same
    from services.message.webhook_wiring import build_ingester  # noqa: PLC0415 - the same

    async with opened_ledger(settings, _NAME, pool_size=8) as database:
        committer = GroupCommitter(
            database,
            silent_relay(settings, database, _NAME),
            batch_size=settings.commit_batch_size,
            queue_size=settings.commit_queue_size,
            republish_after=settings.outbox_republish_after,
            faults=FaultPoints(),
        )
        ingester = build_ingester(settings, database, committer)
        committer.start()
        try:
            yield database, Replayer(database, ingester, memory=settings.provider_event_retention)
        finally:
            await committer.close()
