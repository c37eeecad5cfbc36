"""Structured logs: one JSON object a line on standard output, masked."""

import logging
import sys
from typing import Any

import structlog

from services.kit.masking import mask_text, mask_value
from services.kit.tracebacks import format_safely

# Loggers that are heard below a warning; __main__ is a process of ours run as a module.
_TALKATIVE = frozenset({"services", "gateway", "cli", "posthouse", "uvicorn", "__main__"})

_PLAIN = frozenset({"event", "level", "timestamp", "logger", "process"})


def mask_fields(_logger: Any, _method: str, fields: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Mask every field of a log line; a structlog processor."""
    for key, value in fields.items():
        if key not in _PLAIN and value is not None:
            fields[key] = mask_value(key, value)
    fields["event"] = mask_text(str(fields.get("event", "")))
    return fields


def configure_logging(process: str, *, level: str, style: str) -> None:
    """Send every log line of this process, third parties' too, through one masked renderer."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_process(process),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                format_safely,
                mask_fields,
                renderer,
            ],
        )
    )
    handler.addFilter(_is_ours_or_matters)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # Quiet at the source as well: lines that nobody sees should cost nothing.
    for noisy in ("nats", "httpx", "httpx2", "httpcore", "asyncio", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _is_ours_or_matters(record: logging.LogRecord) -> bool:
    """Tell whether to write a line: what libraries say below a warning may quote what passes through them."""
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] in _TALKATIVE


def set_level(level: str) -> None:
    """Change how much is logged from now on: debug, info, warning or error."""
    logging.getLogger().setLevel(level.upper())


def logs_debug() -> bool:
    """Tell whether debug lines are written: ask before making one on a hot path."""
    return logging.getLogger().isEnabledFor(logging.DEBUG)


def bind_request(request_id: str) -> None:
    """Have every log line of this task, and of those it starts from now on, bear the id of its request."""
    structlog.contextvars.bind_contextvars(request_id=request_id)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module."""
    return structlog.stdlib.get_logger(name)


def _add_process(process: str) -> structlog.typing.Processor:
    def add(_logger: Any, _method: str, fields: structlog.typing.EventDict) -> structlog.typing.EventDict:
        fields["process"] = process
        return fields

    return add
