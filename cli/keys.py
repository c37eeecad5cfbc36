"""API keys from the command line: straight to the database, so that the first key needs none."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from cli.direct import DataDirOption, opened_ledger, run, settings_of
from services.kit.enum_names import SCOPE
from services.kit.scopes import SCOPES

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from posthouse.v1 import auth_pb2
    from services.message.api_keys import ApiKeyKeeper

app = typer.Typer(help="Make, list, rotate and revoke API keys.", no_args_is_help=True)

_T = TypeVar("_T")

ScopeWord = StrEnum("ScopeWord", {scope: scope for scope in SCOPES})  # type: ignore[misc]

_KeyId = Annotated[str, typer.Argument(help="Id of the key, as `list` shows it")]
_PAGE = 200


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Name of the caller, for people")],
    scope: Annotated[list[ScopeWord], typer.Option(help="What it may do; give it several times")],
    expires_in_days: Annotated[int | None, typer.Option(min=1, help="Days it is good for")] = None,
    data_dir: DataDirOption = None,
) -> None:
    """Make a key and print its secret, once."""
    expires = None if expires_in_days is None else datetime.now(UTC) + timedelta(days=expires_in_days)
    key, secret = _with_keeper(data_dir, lambda keeper: keeper.create(name, list(scope), expires))
    _show_secret(key, secret)


@app.command("list")
def list_keys(
    include_revoked: Annotated[bool, typer.Option("--include-revoked", help="Also revoked keys")] = False,
    data_dir: DataDirOption = None,
) -> None:
    """List keys, newest first."""

    async def pages(keeper: "ApiKeyKeeper") -> "list[auth_pb2.ApiKey]":
        found: list[auth_pb2.ApiKey] = []
        while True:
            page = await keeper.list(
                include_revoked=include_revoked, before=found[-1].id if found else None, limit=_PAGE
            )
            found += page
            if len(page) < _PAGE:
                return found

    for key in _with_keeper(data_dir, pages):
        state = "".join(
            f"  {word} {_date(moment)}"
            for word, moment in (("expires", key.expire_time), ("revoked", key.revoke_time))
            if moment.seconds
        )
        typer.echo(f"{key.id}  {key.prefix}…  {_scopes(key)}  {key.name}{state}")


@app.command()
def rotate(
    key_id: _KeyId,
    overlap_hours: Annotated[
        float, typer.Option(min=0, max=720, help="Hours for which the present secret is still taken")
    ] = 0.0,
    data_dir: DataDirOption = None,
) -> None:
    """Give a key a new secret and print it, once."""
    key, secret = _with_keeper(data_dir, lambda keeper: keeper.rotate(key_id, timedelta(hours=overlap_hours)))
    _show_secret(key, secret)


@app.command()
def revoke(key_id: _KeyId, data_dir: DataDirOption = None) -> None:
    """End a key for good; every process knows within two seconds."""
    key = _with_keeper(data_dir, lambda keeper: keeper.revoke(key_id))
    typer.echo(f"Revoked {key.id} ({key.name}).")


def _with_keeper(data_dir: Path | None, work: "Callable[[ApiKeyKeeper], Awaitable[_T]]") -> _T:
    from services.message.api_keys import ApiKeyKeeper  # noqa: PLC0415 - other commands need not load it

    settings = settings_of(data_dir, "keys")

    async def keep() -> _T:
        async with opened_ledger(settings, "keys", database_timeout=10) as database:
            pepper = settings.api_key_secret
            return await work(ApiKeyKeeper(database, pepper.get_secret_value() if pepper else None))

    return run(keep())


def _show_secret(key: "auth_pb2.ApiKey", secret: str) -> None:
    typer.echo(f"{key.id} ({key.name}) may {_scopes(key)}. Its secret is shown only now:", err=True)
    typer.echo(secret)


def _scopes(key: "auth_pb2.ApiKey") -> str:
    return ",".join(SCOPE.word(scope) for scope in key.scopes)


def _date(moment: "Timestamp") -> str:
    return moment.ToDatetime(tzinfo=UTC).isoformat(timespec="seconds")
