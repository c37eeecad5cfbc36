"""Dead letters from the command line: what was given up, and putting it back into the queue."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

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
from services.kit.enum_names import CHANNEL
from services.kit.ids import parse_id

if TYPE_CHECKING:
    from posthouse.v1.dispatch_pb2 import DeadLetter
    from services.dispatch.intervening import Intervener
    from services.ledger.database import Database
    from services.ledger.dead_letters import DeadLetterFilter

app = typer.Typer(help="List and replay messages that were given up.", no_args_is_help=True)

_T = TypeVar("_T")
_NAME = "dead-letters"
_PAGE = 200

ChannelWord = StrEnum("ChannelWord", {word: word for word in CHANNEL.words})  # type: ignore[misc]

_Channel = Annotated[ChannelWord | None, typer.Option("--type", help="Only of this channel")]
_Reason = Annotated[str, typer.Option(help="Only for this reason: attempts_exhausted, rejected, expired, …")]
_Provider = Annotated[str, typer.Option(help="Only those whose last attempt was with this provider")]
_ErrorCode = Annotated[str, typer.Option(help="Only with this error code")]


@app.command("list")
def list_letters(
    channel: _Channel = None,
    reason: _Reason = "",
    provider: _Provider = "",
    error_code: _ErrorCode = "",
    since: SinceOption = None,
    until: UntilOption = None,
    include_replayed: Annotated[
        bool, typer.Option("--include-replayed", help="Also those that were replayed")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many")] = 100,
    data_dir: DataDirOption = None,
) -> None:
    """List dead letters, newest first: message, time, channel, provider, reason and error."""
    chosen = _filter(channel, reason, provider, error_code, since, until)

    async def work(database: "Database", _intervener: "Intervener") -> None:
        left = limit
        async for letter in _letters(database, chosen, include_replayed=include_replayed):
            typer.echo(_line(letter))
            left -= 1
            if not left:
                return

    _run(data_dir, work)


@app.command()
def replay(
    messages: Annotated[
        list[str] | None, typer.Argument(help="Ids of messages, as `list` shows them")
    ] = None,
    channel: _Channel = None,
    reason: _Reason = "",
    provider: _Provider = "",
    error_code: _ErrorCode = "",
    since: SinceOption = None,
    until: UntilOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Send given-up messages again: those named, or all of a filter. Nothing is done twice."""
    from services.ledger.dead_letters import DeadLetterFilter  # noqa: PLC0415 - other commands need not load it

    chosen = _filter(channel, reason, provider, error_code, since, until)
    if bool(messages) == (chosen != DeadLetterFilter()):
        raise typer.BadParameter("name messages, or say by --type, --provider, --since, … which ones")

    async def work(database: "Database", intervener: "Intervener") -> int:
        if messages:
            return len(await intervener.replay([parse_id("message", given) for given in messages]))
        # What is given up anew meanwhile is not replayed again.
        await database.ping()
        within = chosen._replace(until=chosen.until or database.clock.now())
        count, more = 0, True
        while more:
            replayed, more = await intervener.replay_some(within)
            count += len(replayed)
        return count

    typer.echo(f"Replayed {_run(data_dir, work):,}.")


def _filter(
    channel: ChannelWord | None,
    reason: str,
    provider: str,
    error_code: str,
    since: datetime | None,
    until: datetime | None,
) -> "DeadLetterFilter":
    from services.ledger.dead_letters import DeadLetterFilter  # noqa: PLC0415 - the same

    return DeadLetterFilter(channel or "", reason, provider, error_code, in_utc(since), in_utc(until))


async def _letters(
    database: "Database", chosen: "DeadLetterFilter", *, include_replayed: bool
) -> "AsyncIterator[DeadLetter]":
    from services.ledger.dead_letters import create_time_of, list_dead_letters  # noqa: PLC0415 - the same

    before: tuple[datetime, str] | None = None
    while True:
        async with database.read_primary() as connection:
            page = await list_dead_letters(
                connection, chosen, include_replayed=include_replayed, before=before, limit=_PAGE
            )
        for letter in page:
            yield letter
        if len(page) < _PAGE:
            return
        before = (create_time_of(page[-1]), page[-1].message_id)


def _line(letter: "DeadLetter") -> str:
    parts = [
        letter.message_id,
        letter.create_time.ToDatetime(UTC).isoformat(timespec="seconds"),
        CHANNEL.word(letter.channel),
        letter.provider or "-",
        letter.reason,
        letter.error_code or "-",
        letter.error_message,
    ]
    if letter.HasField("replay_time"):
        parts.append(f"replayed {letter.replay_time.ToDatetime(UTC).isoformat(timespec='seconds')}")
    return "  ".join(part for part in parts if part)


def _run(data_dir: Path | None, work: "Callable[[Database, Intervener], Awaitable[_T]]") -> _T:
    from services.dispatch.intervening import Intervener  # noqa: PLC0415 - the same

    settings = settings_of(data_dir, _NAME)

    async def intervene() -> _T:
        async with opened_ledger(settings, _NAME) as database:
            relay = silent_relay(settings, database, _NAME)
            intervener = Intervener(database, relay, republish_after=settings.outbox_republish_after)
            return await work(database, intervener)

    return run(intervene())
