"""What an exception says may be what a person wrote: log lines tell where and of what type."""

import io
import json
import logging
import sys
from collections.abc import Iterator

import psycopg.errors
import pytest

from services.kit.errors import NotFoundError
from services.kit.logs import configure_logging, get_logger
from services.kit.tracebacks import describe, summary


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = (root.handlers, root.level)
    written = io.StringIO()
    monkeypatch.setattr(sys, "stdout", written)
    configure_logging("test", level="debug", style="json")
    yield written
    root.handlers, root.level = before


def test_a_chain_without_its_texts() -> None:
    wrote = "what Ann wrote"
    try:
        try:
            _fail(ValueError(wrote))
        except ValueError as error:
            raise RuntimeError(wrote) from error
    except RuntimeError as error:
        text = describe(error)
    assert wrote not in text
    assert text.index("\nValueError") < text.index("\nRuntimeError")
    assert "in test_a_chain_without_its_texts" in text


def _fail(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (psycopg.errors.UniqueViolation("Key (a)=(Ann)"), "psycopg.errors.UniqueViolation [23505]"),
        (ConnectionRefusedError(111, "refused"), "ConnectionRefusedError: [Errno 111] refused"),
        (NotFoundError("none"), "services.kit.errors.NotFoundError: none"),
        (ExceptionGroup("two", [KeyError("Ann"), OSError("x")]), "ExceptionGroup: KeyError; OSError: x"),
    ],
)
def test_one_line(error: Exception, said: str) -> None:
    assert summary(error) == said


def test_log_lines_have_no_foreign_texts(output: io.StringIO) -> None:
    log = get_logger("services.test")
    try:
        _fail(ValueError("Ann", "wrote"))
    except ValueError:
        log.exception("failed")
    logging.getLogger("some.library").error("broken", exc_info=ValueError("Ann wrote"))
    logging.getLogger("some.library").info("Ann wrote")
    log.debug("heard")
    lines = [json.loads(line) for line in output.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["failed", "broken", "heard"]
    assert lines[0]["exception"].endswith("\nValueError")
    assert lines[1]["exception"].endswith("\nValueError")
