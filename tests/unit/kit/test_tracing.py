"""What tracing costs where it is off: nothing is imported, and asking is free of side effects."""

import subprocess
import sys

from services.kit.tracing import current_trace, is_sampled, span, tracing

_IMPORTS = """
import importlib, sys
HEAVY = [["opentelemetry", name] for name in ("sdk", "exporter", "instrumentation", "proto")]
for name in ("services.message", "services.conversation", "services.dispatch", "gateway"):
    importlib.import_module(f"{name}.__main__")
# FastAPI brings the bare interface.
loaded = [name for name in sys.modules if name.split(".")[:2] in HEAVY]
assert not loaded, loaded
"""


def test_no_process_imports_it_unasked() -> None:
    subprocess.run([sys.executable, "-c", _IMPORTS], check=True, timeout=120)  # noqa: S603 - our own code


def test_spans_are_nothing() -> None:
    with span("anything", ["00-" + "1" * 32 + "-" + "2" * 16 + "-01"]) as context:
        assert context == ""
        assert current_trace() == ""
    assert tracing() is None


def test_a_traceparent_is_known() -> None:
    good = "00-" + "1" * 32 + "-" + "2" * 16
    assert is_sampled(f"{good}-01")
    for text in ("", f"{good}-00", f"{good}-01 ", f"01{good[2:]}-01", good.upper()):
        assert not is_sampled(text)
