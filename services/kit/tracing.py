"""Traces of what passes through, where an exporter is set.

Without one OpenTelemetry is not even imported, and what is asked here costs a look at a variable. Contexts
travel as W3C traceparents, so that they can be kept and sent like any text; "" stands for none.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final

from services.kit.config import Settings

if TYPE_CHECKING:
    from services.kit.otel import OtelTracing

# Metadata of a call that does the work of several requests: their traceparents, separated by commas.
CONTEXTS: Final = "x-posthouse-traceparents"

_TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-(0[01])")
_NOTHING: Final = contextlib.nullcontext("")


class _Process:
    tracing: "OtelTracing | None" = None


@contextlib.contextmanager
def traced_process(process: str, settings: Settings) -> Iterator[None]:
    """Trace within the block, if the settings name an exporter; export what is left at its end."""
    if not settings.otel_exporter_otlp_endpoint:
        yield
        return
    from services.kit.otel import OtelTracing  # noqa: PLC0415 - only who traces pays for it

    _Process.tracing = OtelTracing.over_otlp(
        process, settings.otel_exporter_otlp_endpoint, ratio=settings.otel_traces_sampler_arg
    )
    try:
        yield
    finally:
        tracing, _Process.tracing = _Process.tracing, None
        tracing.close()


def tracing() -> "OtelTracing | None":
    """Return what traces this process, None where nothing does."""
    return _Process.tracing


def current_trace() -> str:
    """Return the traceparent of the span that this task is in."""
    found = _Process.tracing
    return "" if found is None else found.current()


def span(
    name: str, contexts: Sequence[str] | None = None, kind: str = "internal", **attributes: str | int
) -> AbstractContextManager[str]:
    """Return a span as a context manager, which yields its traceparent.

    It belongs to the first of `contexts` and is linked to the others; to the current span without any.
    With contexts of which none is traced, there is no span.
    """
    found = _Process.tracing
    return _NOTHING if found is None else found.span(name, contexts, kind, attributes)


def is_sampled(traceparent: str) -> bool:
    """Tell whether a text is a traceparent, of a trace that is kept."""
    found = _TRACEPARENT.fullmatch(traceparent)
    return found is not None and found[1] == "01"
