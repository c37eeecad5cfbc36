"""What `posthouse up` says while it starts."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from cli import stack
from cli.signals import StopSignals
from services.kit.config import Settings


def test_a_slow_start_is_told_once_and_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter([False, False, False, True])
    monkeypatch.setattr(stack, "gateway_is_ready", lambda *_: next(answers))
    monkeypatch.setattr(stack, "_READY_TIMEOUT", -1)
    starting = stack.Stack(Settings(data_dir=tmp_path))
    starting._await_gateway(cast("StopSignals", SimpleNamespace(pause=lambda _seconds: None)))
    assert capsys.readouterr().out.count("still waiting") == 1
    assert next(answers, None) is None
