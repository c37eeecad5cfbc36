"""A kept webhook can be applied again: once more changes nothing, what was missed is made up for."""

import asyncio
import contextlib
import re
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner

from cli.main import app
from services.kit.config import Settings
from services.kit.ids import new_id
from tests.integration.ledger.rows import Book

from .test_inbound import _receipt, _reply, _sent, _webhook

pytestmark = pytest.mark.integration


def _cli(settings: Settings, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(
        app,
        ["webhooks", *arguments],
        env={
            "DATABASE_URL": settings.database_url,
            "POSTHOUSE_DATA_DIR": str(settings.data_dir),
            "POSTHOUSE_SIMULATOR_PATH": str(settings.simulator_path),
        },
    )
    return done.exit_code, done.output


@pytest.fixture
async def kept(stub: Any, book: Book) -> list[str]:
    """Ids of three entries: one applied, one forged, one that told of nothing."""
    message_id = await _sent(book)
    for request in (
        _webhook([_receipt(message_id), _reply()]),
        _webhook([_reply("R2")], secret="another"),
        _webhook([]),
    ):
        with contextlib.suppress(grpc.aio.AioRpcError):  # the forged one
            await stub.IngestWebhook(request)
    return [log_id for (log_id,) in await book.rows("SELECT id::text FROM webhook_logs ORDER BY id")]


async def test_a_replay_does_what_was_missed_and_nothing_twice(
    settings: Settings, kept: list[str], book: Book
) -> None:
    async def cli(*arguments: str) -> tuple[int, str]:
        return await asyncio.to_thread(_cli, settings, *arguments)

    code, text = await cli("list")
    assert code == 0, text
    assert [line.split()[0] for line in text.splitlines()] == kept
    assert re.search(rf"{kept[0]} .* simulator  accepted  applied 2 ", text)

    code, text = await cli("replay", kept[0])
    assert (code, "applied 0, repeated 2" in text) == (0, True), text
    assert await book.value("SELECT count(*) FROM messages") == 2

    # As if the first time had been lost.
    await book.rows("DELETE FROM provider_events WHERE event_key = 'R1:reply'")
    await book.rows("DELETE FROM messages WHERE direction = 'inbound'")
    for applied in (1, 0):
        code, text = await cli("replay", "--since", "2026-01-01", "--verdict", "accepted")
        assert (code, f"applied {applied}, repeated {2 - applied}" in text) == (0, True), text
    assert await book.value("SELECT count(*) FROM messages WHERE direction = 'inbound'") == 1
    assert await book.value("SELECT count(*) FROM webhook_logs WHERE replay_time IS NOT NULL") == 2

    code, text = await cli("replay", kept[1])
    assert (code, "forged" in text) == (1, True), text
    code, text = await cli("replay", "--trust-forged", kept[1])
    assert (code, "applied 1" in text) == (0, True), text
    assert await book.value("SELECT verdict FROM webhook_logs WHERE id = %s", kept[1]) == "accepted"
    message_id = await book.value("SELECT id::text FROM messages WHERE provider_message_id = 'R2'")
    code, text = await cli("list", "--message", message_id)
    assert [line.split()[0] for line in text.splitlines()] == [kept[1]]
    assert (await cli("replay", new_id()))[0] == 1
