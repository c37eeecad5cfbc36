"""Request ids in log lines, and levels that change while a process runs."""

import asyncio
import json
import logging
import os
import signal

import pytest

from services.kit.config import Settings
from services.kit.logs import bind_request, get_logger, logs_debug
from services.kit.process import run_process
from services.kit.request_ids import request_id, request_id_of_call


def test_a_request_id_is_taken_when_it_is_usable() -> None:
    assert request_id(b"order-17") == "order-17"
    assert request_id_of_call([("other", "x"), ("x-request-id", "order-18")]) == "order-18"
    for given in (None, b"", b"two words", b"x" * 129, "ü".encode()):
        assert len(request_id(given)) == 36
    assert len(request_id_of_call(None)) == 36
    assert len(request_id_of_call([("x-request-id", "two words")])) == 36


def test_signals_change_the_level(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTHOUSE_LOG_LEVEL", "warning")
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", root.handlers)
    monkeypatch.setattr(root, "level", root.level)
    log = get_logger("services.levels")
    seen = []

    async def until(debug: bool) -> None:
        async with asyncio.timeout(60):
            while logs_debug() is not debug:  # noqa: ASYNC110 - a signal sets no event
                await asyncio.sleep(0.01)

    async def main(_settings: Settings, _stop: asyncio.Event) -> None:
        bind_request("order-19")
        log.debug("too_early")
        os.kill(os.getpid(), signal.SIGUSR1)
        await until(True)
        log.debug("in_between")
        os.kill(os.getpid(), signal.SIGUSR2)
        await until(False)
        log.debug("too_late")
        seen.append(True)

    run_process("gateway", main, Settings(log_level="error"))
    assert seen
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    by_event = {line["event"]: line for line in lines}
    assert by_event["in_between"]["request_id"] == "order-19"
    assert not by_event.keys() & {"too_early", "too_late"}
    assert [line["to"] for line in lines if line["event"] == "log_level_changed"] == ["debug", "warning"]
